"""Bytes of local and remote files by offset, many at once, from any process."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from io import FileIO
from typing import Any, TypeVar

from prx_scale.data.sources.kept import Kept
from prx_scale.errors import InputError

Range = tuple[str, int, int]
"""Path or URL, first byte, byte to end before."""

_OPEN_FILES = 256
_COPIES = 8
_TRIES = 3
_MERGED = 1 << 24
T = TypeVar("T")


def is_url(path: str) -> bool:
    """Whether a path names a protocol, such as memory:// or https://."""
    return "://" in path


def local_path(path: str) -> str:
    """A path without file://."""
    return path.removeprefix("file://")


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's filesystem of a URL, and the path in it.

    Raises:
        InputError: fsspec, or what it needs for this protocol, is missing; or there is no such protocol.
    """
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise InputError(f"{url}: URLs need fsspec, which prx-scale[train] brings; local paths need nothing") from error
    try:
        return fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}; a local file is named by its path alone") from error


class FileReader:
    """Ranges of bytes out of local files and URLs.

    Files stay open for the next call, in each process by itself. A server that does not answer to ranges is read by
    whole files, copies of which are kept for the last few.
    """

    def __init__(self) -> None:
        self._open: Kept[str, FileIO] = Kept(_OPEN_FILES, drop=FileIO.close)
        self._copies: Kept[str, FileIO] = Kept(_COPIES, drop=FileIO.close)

    def read(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        """Read ranges of files; those in a row that touch are read as one where the file is remote.

        Args:
            ranges: what to read. A file that ends before gives fewer bytes.

        Returns:
            The bytes of each range, or why it could not be read, after three tries.
        """
        remote = [place for place, (path, _, _) in enumerate(ranges) if is_url(path)]
        found: list[bytes | OSError] = [b""] * len(ranges)
        for place, each in enumerate(ranges):
            if not is_url(each[0]):
                found[place] = self._local(each)
        if remote:
            for place, answer in zip(remote, self._remote([ranges[place] for place in remote]), strict=True):
                found[place] = answer
        return found

    def _local(self, wanted: Range) -> bytes | OSError:
        path, start, stop = wanted
        try:
            return _pread(self._open.get(path, lambda: FileIO(path)).fileno(), start, stop)
        except OSError as error:
            self._open.forget(path)
            return error

    def _remote(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        merged, owners = _merged(ranges)
        chunks = self._ranges(merged)
        found: list[bytes | OSError] = []
        for (_, start, stop), owner in zip(ranges, owners, strict=True):
            chunk, base = chunks[owner], merged[owner][1]
            found.append(chunk if isinstance(chunk, OSError) else chunk[start - base : stop - base])
        return found

    def _ranges(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        found: list[bytes | OSError] = [b""] * len(ranges)
        asked: dict[str, list[int]] = {}
        for place, (url, _, _) in enumerate(ranges):
            if url in self._copies:
                found[place] = self._from_copy(ranges[place])
            else:
                asked.setdefault(url.split("://", 1)[0], []).append(place)
        for places in asked.values():
            system = filesystem(ranges[places[0]][0])[0]
            answers = _cat(system, [ranges[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                _, start, stop = ranges[place]
                # A server that knows no ranges sends the whole file, or fails.
                if isinstance(answer, Exception) or len(answer) > stop - start:
                    found[place] = self._from_copy(ranges[place])
                else:
                    found[place] = answer
        return found

    def _from_copy(self, wanted: Range) -> bytes | OSError:
        url, start, stop = wanted
        try:
            return _pread(self._copies.get(url, lambda: _unnamed_copy(url)).fileno(), start, stop)
        except OSError as error:
            return error


def copy_to(url: str, folder: str) -> str:
    """Copy a remote file into a folder.

    Returns:
        The copy's path.

    Raises:
        OSError: it cannot be read.
    """
    system, name = filesystem(url)
    handle, target = tempfile.mkstemp(dir=folder)
    os.close(handle)
    retried(lambda: system.get_file(name, target))
    return target


def retried(action: Callable[[], T]) -> T:
    """Do something over a network, three times if need be.

    Raises:
        OSError: it failed each time.
    """
    for attempt in range(_TRIES):
        try:
            return action()
        except FileNotFoundError:
            raise
        except Exception as error:
            # What a protocol's client raises is not known here.
            if attempt == _TRIES - 1:
                raise error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(0.2 * 4**attempt)
    raise AssertionError


def _unnamed_copy(url: str) -> FileIO:
    """A copy without a name, so that its space is free again when it is closed, however the process ends."""
    with tempfile.TemporaryDirectory(prefix="prx-scale-") as folder:
        return FileIO(copy_to(url, folder))


def _pread(handle: int, start: int, stop: int) -> bytes:
    data = os.pread(handle, stop - start, start)
    if len(data) == stop - start or not data:
        return data
    parts = [data]
    while data and (got := sum(map(len, parts))) < stop - start:
        data = os.pread(handle, stop - start - got, start + got)
        parts.append(data)
    return b"".join(parts)


def _cat(system: Any, ranges: Sequence[Range]) -> list[bytes | Exception]:
    paths = [filesystem(url)[1] for url, _, _ in ranges]
    starts, stops = [start for _, start, _ in ranges], [stop for _, _, stop in ranges]
    for attempt in range(_TRIES):
        found = system.cat_ranges(paths, starts, stops, on_error="return")
        if not any(isinstance(each, Exception) for each in found) or attempt == _TRIES - 1:
            return found
        time.sleep(0.2 * 4**attempt)
    raise AssertionError


def _merged(ranges: Sequence[Range]) -> tuple[list[Range], list[int]]:
    """Ranges of which those that touch are one, and which one holds each."""
    merged: list[Range] = []
    owners: list[int] = []
    for path, start, stop in ranges:
        if merged and merged[-1][0] == path and merged[-1][2] == start and stop - merged[-1][1] <= _MERGED:
            merged[-1] = (path, merged[-1][1], stop)
        else:
            merged.append((path, start, stop))
        owners.append(len(merged) - 1)
    return merged, owners
