"""The tar format, as far as a sample needs it: headers, and the files that belong together.

A sample is a run of files with the same name up to the first dot of its last part (WebDataset's rule); what follows
that dot is the suffix that tells image, caption and the rest apart. Python's tarfile stops at the first damaged header
and takes five times as long; this goes on at the next whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
_CHUNK = 1 << 20
_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_EXTENSIONS = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL)
_LONGEST_EXTENSION = 1 << 20

Read = Callable[[int, int], bytes]
"""Reads from one offset to another; fewer bytes at the end of a file."""


class DamagedHeader(Exception):
    """A block that should be a header and is none."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """One header block."""

    name: str
    size: int
    kind: bytes

    @property
    def stored(self) -> int:
        """Bytes that its contents take, in whole blocks."""
        return -(-self.size // BLOCK) * BLOCK


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry with the extensions before it."""

    name: str
    start: int
    """Of its first header."""
    data: int
    size: int
    end: int
    used: bool
    """Whether it is a file of a sample: no folder, link or hidden file, such as those that macOS adds."""


def split_name(name: str) -> tuple[str, str]:
    """Name of the sample and suffix: ("a/b", "seg.png") of "a/b.seg.png"."""
    folder, slash, last = name.rpartition("/")
    base, _, suffix = last.partition(".")
    return f"{folder}{slash}{base}", suffix


def parse_header(block: bytes) -> Header:
    """Read a header block.

    Raises:
        DamagedHeader: its checksum or a number in it is wrong.
    """
    if len(block) < BLOCK:
        raise DamagedHeader("the file ends in a header")
    if _number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 32:
        raise DamagedHeader("a header's checksum is wrong")
    size = _number(block[124:136])
    if size < 0:
        raise DamagedHeader("a header's size is negative")
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return Header(name=name.decode("utf-8", errors="replace"), size=size, kind=block[156:157])


def is_header(block: bytes) -> bool:
    """Whether a block is a header beyond doubt: it has the format's mark and the right checksum."""
    if block[257:262] != b"ustar":
        return False
    try:
        parse_header(block)
    except DamagedHeader:
        return False
    return True


def read_member(read: Read, start: int) -> Member | None:
    """The entry at an offset.

    Args:
        read: gives bytes of the file.
        start: where its first header is.

    Returns:
        The entry, or None at the end of the file or a block of zeros.

    Raises:
        DamagedHeader: no entry begins here.
    """
    at, long_name, pax_name, pax_size = start, None, None, None
    while True:
        block = read(at, at + BLOCK)
        if not block or block.count(0) == len(block) == BLOCK:
            if at == start:
                return None
            raise DamagedHeader("an entry has only its extensions")
        header = parse_header(block)
        at += BLOCK
        if header.kind not in _EXTENSIONS:
            break
        if header.size > _LONGEST_EXTENSION:
            raise DamagedHeader("the extension of a header is too long")
        if header.kind in (_LONG_NAME, _PAX):
            text = read(at, at + header.size)
            if header.kind == _LONG_NAME:
                long_name = text.split(b"\0", 1)[0].decode("utf-8", errors="replace")
            else:
                pax_name, pax_size = _pax(text)
        at += header.stored
    size = header.size if pax_size is None else pax_size
    name = pax_name or long_name or header.name
    end = at + -(-size // BLOCK) * BLOCK
    return Member(
        name=name, start=start, data=at, size=size, end=end, used=header.kind in _REGULAR and not _hidden(name)
    )


def members(read: Read, start: int, stop: int) -> Iterator[Member]:
    """The entries of a file or a part of it, over blocks of zeros, as concatenated files have them between.

    Args:
        read: gives bytes of the file.
        start: where the first header is.
        stop: where the part ends.

    Raises:
        DamagedHeader: what should be a header is none.
    """
    at = start
    while at < stop:
        member = read_member(read, at)
        if member is not None:
            yield member
            at = member.end
        else:
            at = _after_zeros(read, at, stop)


def next_header(read: Read, start: int, stop: int) -> int:
    """Offset of the first block after `start` that is a header beyond doubt; `stop` if there is none."""
    at = start + BLOCK
    while at < stop:
        chunk = read(at, min(at + _CHUNK, stop))
        if len(chunk) < BLOCK:
            break
        for offset in range(0, len(chunk) - BLOCK + 1, BLOCK):
            if chunk[offset + 257 : offset + 262] == b"ustar" and is_header(chunk[offset : offset + BLOCK]):
                return at + offset
        at += len(chunk) - len(chunk) % BLOCK
    return stop


def _after_zeros(read: Read, start: int, stop: int) -> int:
    at = start
    while at < stop:
        chunk = read(at, min(at + _CHUNK, stop))
        rest = chunk.lstrip(b"\0")
        if rest:
            return at + (len(chunk) - len(rest)) // BLOCK * BLOCK
        if not chunk:
            break
        at += len(chunk)
    return stop


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _number(digits: bytes) -> int:
    if digits[:1] in (b"\x80", b"\xff"):
        value = int.from_bytes(digits[1:], "big")
        return value if digits[0] == 0x80 else value - (1 << (8 * (len(digits) - 1)))
    text = digits.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError as error:
        raise DamagedHeader("a number in a header is none") from error


def _pax(text: bytes) -> tuple[str | None, int | None]:
    """Name and size out of an extended header: records of `LENGTH KEY=VALUE` and a line feed."""
    found: dict[bytes, bytes] = {}
    while text:
        length, space, _ = text.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length) <= len(text):
            break
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key], text = value, text[int(length) :]
    name, size = found.get(b"path"), found.get(b"size", b"")
    return (
        None if name is None else name.decode("utf-8", errors="replace"),
        int(size) if size.isdigit() and len(size) < 19 else None,
    )
