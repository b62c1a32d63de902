"""Where the samples of a tar begin, found by a walk over its headers and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.sources.files import copy_to, is_url
from prx_scale.data.sources.state import state_of_file
from prx_scale.data.sources.tarfiles import BLOCK, DamagedHeader, Read, members, next_header, split_name

_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """Places of one tar: place i lies in the bytes from edges[i] to edges[i + 1].

    A damaged header may have belonged to the sample before it or to the one after: both are one damaged place with it,
    so that no sample is taken that lacks a file.
    """

    edges: NDArray[np.int64]
    """(S + 1,)"""
    again: NDArray[np.int64]
    """Places whose name an earlier one has."""
    ended: bool
    """Whether the tar has its end mark; else its last sample may lack files."""

    @property
    def count(self) -> int:
        """Places."""
        return len(self.edges) - 1


def scan(read: Read, size: int) -> TarIndex:
    """Walk over the headers of a tar.

    Args:
        read: gives its bytes.
        size: bytes of the file.
    """
    starts: list[int] = []
    again: list[int] = []
    seen: set[str | None] = set()
    last: str | None = None
    end, damaged = 0, False
    for start, stop, name in _walk(read, size):
        end = stop
        if name is None or damaged or name != last:
            # What follows damage joins it until the next sample; what is before it joins by not being ended.
            if not starts or not (name is None or damaged):
                starts.append(start)
                if name in seen:
                    again.append(len(starts) - 1)
            damaged = name is None
        if name is not None:
            last = name
            seen.add(name)
    if not starts and size < BLOCK:
        starts.append(0)
    edges = np.array([*starts, size], dtype=np.int64)
    return TarIndex(edges=edges, again=np.array(again, dtype=np.int64), ended=end < size)


def _walk(read: Read, size: int) -> Iterator[tuple[int, int, str | None]]:
    """Start, end and sample of every file; None for what is damaged."""
    at = 0
    while at < size:
        try:
            for member in members(read, at, size):
                at = member.end
                if member.used:
                    yield member.start, member.end, split_name(member.name)[0]
            return
        except DamagedHeader:
            start, at = at, next_header(read, at, size)
            yield start, at, None


def cache_folder() -> Path:
    """Where indexes are kept: $PRX_SCALE_CACHE, or prx-scale in the user's cache folder."""
    if named := os.environ.get("PRX_SCALE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prx-scale"


def index_of(path: str) -> TarIndex:
    """The index of a tar: from the cache, or made and put there.

    Args:
        path: local path or URL. A local file that has changed since is looked through again; what a URL names is
            taken never to change, and copied to a temporary folder for this.

    Raises:
        OSError: the file cannot be read.
    """
    kept = cache_folder() / "tars" / f"{_identity(path)}.npz"
    if (found := _load_arrays(kept, "edges", "again", "ended")) is not None:
        return TarIndex(edges=found[0], again=found[1], ended=bool(found[2].all()))
    index = _scan_file(path)
    _save_arrays(kept, edges=index.edges, again=index.again, ended=np.array([index.ended], dtype=np.int64))
    return index


def counts_of(paths: Sequence[str]) -> NDArray[np.int64]:
    """Places of several tars, from one file of the cache where they have been counted before.

    Args:
        paths: local paths or URLs.

    Returns:
        (S,); 1 for a tar that cannot be read, which is one damaged place.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_identity_or_none(path).encode())
    kept = cache_folder() / "tars" / f"counts-{digest.hexdigest()[:32]}.npz"
    found = _load_arrays(kept, "counts")
    if found is not None and len(found[0]) == len(paths):
        return found[0]
    counts, whole = np.ones(len(paths), dtype=np.int64), True
    # Processes that start together share the work through the cache when they do not go in step.
    for place in random.sample(range(len(paths)), len(paths)):
        try:
            counts[place] = index_of(paths[place]).count
        except OSError:
            whole = False
    if whole:
        _save_arrays(kept, counts=counts)
    return counts


def _identity_or_none(path: str) -> str:
    try:
        return _identity(path)
    except OSError:
        return "-" * 32


def _identity(path: str) -> str:
    return hashlib.sha256(f"{_VERSION}\n{state_of_file(path)}".encode()).hexdigest()[:32]


def _scan_file(path: str) -> TarIndex:
    if not is_url(path):
        return _scan_local(path)
    with tempfile.TemporaryDirectory(prefix="prx-scale-") as folder:
        return _scan_local(copy_to(path, folder))


def _scan_local(path: str) -> TarIndex:
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        if hasattr(os, "posix_fadvise"):
            # Headers lie far apart: reading ahead would read the whole file.
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        return scan(lambda start, stop: os.pread(handle, stop - start, start), os.fstat(handle).st_size)


def _load_arrays(kept: Path, *names: str) -> list[NDArray[np.int64]] | None:
    try:
        with np.load(kept) as found:
            return [found[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save_arrays(kept: Path, **arrays: NDArray[np.int64]) -> None:
    """Put arrays into the cache; a cache that cannot be written costs time and nothing else."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part", delete=False) as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(file.name, kept)
    except OSError:
        return
