"""Logs as they grow: what was added to any of several files, with a heading where the file changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 65_536


@dataclass
class _Place:
    inode: int
    offset: int
    rest: bytes = b""
    """A line that is not whole yet."""


class Follower:
    """Reads what is added to files. They may appear later, be cut, or be replaced."""

    def __init__(self, lines: int) -> None:
        """Args: lines is how many of the last of each file are given at first."""
        self.lines = lines
        self._places: dict[Path, _Place] = {}
        self._first = True

    def new(self, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """What was added since the last call, whole lines only.

        Args:
            files: that are looked at; those that appear later are read from their beginning.
        """
        for path in files:
            text = self._added(path)
            if text:
                yield path, text
        self._first = False

    def rest(self) -> Iterator[tuple[Path, str]]:
        """Last lines without an end, when no more is to come."""
        for path, place in self._places.items():
            if place.rest:
                yield path, place.rest.decode("utf-8", errors="replace") + "\n"
                place.rest = b""

    def _added(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                return self._read(path, os.fstat(file.fileno()), file.fileno())
        except OSError:  # not there yet, or its server is away for a moment
            return ""

    def _read(self, path: Path, stat: os.stat_result, descriptor: int) -> str:
        place = self._places.get(path)
        if place is None or place.inode != stat.st_ino or stat.st_size < place.offset:
            place = self._places[path] = _Place(inode=stat.st_ino, offset=0)
            if self._first:
                place.offset = _start_of_last(descriptor, stat.st_size, self.lines)
        content = place.rest + os.pread(descriptor, max(0, stat.st_size - place.offset), place.offset)
        place.offset = stat.st_size
        whole, newline, place.rest = content.rpartition(b"\n")
        return (whole + newline).decode("utf-8", errors="replace")


def _start_of_last(descriptor: int, size: int, lines: int) -> int:
    """Where the last lines of a file begin, read from its end."""
    if lines <= 0:
        return size
    content, begin = b"", size
    while begin > 0 and content.count(b"\n") <= lines:
        step = min(CHUNK_BYTES, begin)
        begin -= step
        content = os.pread(descriptor, step, begin) + content
    cut = len(content) - 1 if content.endswith(b"\n") else len(content)
    for _ in range(lines):
        cut = content.rfind(b"\n", 0, cut)
        if cut < 0:
            return begin
    return begin + cut + 1


class Heading:
    """Says which file comes next, as tail does."""

    def __init__(self, study: Path) -> None:
        """Args: study is the folder that paths are shown from."""
        self.study = study
        self.needed = False
        """Whether there is more than one file."""
        self._last: Path | None = None

    def before(self, path: Path) -> str:
        """What to print ahead of lines of a file; nothing where they go on from the last.

        Args:
            path: of the file.
        """
        if path == self._last or not self.needed:
            return ""
        gap = "\n" if self._last else ""
        self._last = path
        shown = path.relative_to(self.study) if path.is_relative_to(self.study) else path
        return f"{gap}==> {shown} <==\n"
