"""Where the samples of a tar begin, found by a walk over its headers and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.sources.files import FileReader, is_url
from prx_scale.data.sources.tarfiles import DamagedHeader, Read, members, next_header, split_name

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """Places of one tar: place i lies in the bytes from edges[i] to edges[i + 1].

    What is damaged is a place of its own, from the first bad header to the next good one or the end of the file; so is
    what a truncated file lacks.
    """

    edges: NDArray[np.int64]
    """(S + 1,)"""
    again: NDArray[np.int64]
    """Places whose name an earlier one has."""

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
    seen: set[str] = set()
    last: str | None = None
    for start, name in _walk(read, size):
        if name is None or name != last:
            if name is not None and name in seen:
                again.append(len(starts))
            if name is not None:
                seen.add(name)
            starts.append(start)
        last = name
    if not starts and size == 0:
        starts.append(0)
    return TarIndex(edges=np.array([*starts, size], dtype=np.int64), again=np.array(again, dtype=np.int64))


def _walk(read: Read, size: int) -> Iterator[tuple[int, str | None]]:
    """Offset and sample of every file; None for what is damaged."""
    at = 0
    while at < size:
        try:
            for member in members(read, at, size):
                at = member.end
                if member.regular:
                    yield member.start, split_name(member.name)[0]
            return
        except DamagedHeader:
            yield at, None
            at = next_header(read, at, size)


def cache_folder() -> Path:
    """Where indexes are kept: $PRX_SCALE_CACHE, or prx-scale in the user's cache folder."""
    if named := os.environ.get("PRX_SCALE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prx-scale"


def index_of(path: str, files: FileReader) -> TarIndex:
    """The index of a tar: from the cache, or made and put there.

    Args:
        path: local path or URL. A local file that has changed since is looked through again; what a URL names is
            taken never to change.
        files: reads it. A remote file is copied once to a temporary folder for this.

    Raises:
        OSError: the file cannot be read.
    """
    kept = cache_folder() / "tars" / f"{_identity(path)}.npz"
    found = _load(kept)
    if found is None:
        found = _scan_file(path, files)
        _save(kept, found)
    return found


def _identity(path: str) -> str:
    if is_url(path):
        told = f"{_VERSION}\n{path}"
    else:
        state = os.stat(path)
        told = f"{_VERSION}\n{os.path.realpath(path)}\n{state.st_size}\n{state.st_mtime_ns}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _scan_file(path: str, files: FileReader) -> TarIndex:
    if not is_url(path):
        return _scan_local(path)
    with tempfile.TemporaryDirectory(prefix="prx-scale-") as folder:
        return _scan_local(str(files.copy(path, Path(folder))))


def _scan_local(path: str) -> TarIndex:
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        if hasattr(os, "posix_fadvise"):
            # Headers lie far apart: reading ahead would read the whole file.
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        return scan(lambda start, stop: os.pread(handle, stop - start, start), os.fstat(handle).st_size)


def _load(kept: Path) -> TarIndex | None:
    try:
        with np.load(kept) as found:
            return TarIndex(edges=found["edges"], again=found["again"])
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _save(kept: Path, index: TarIndex) -> None:
    """Put an index into the cache; a cache that cannot be written costs time and nothing else."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part", delete=False) as file:
            np.savez(file, edges=index.edges, again=index.again)
        os.replace(file.name, kept)
    except OSError:
        return
