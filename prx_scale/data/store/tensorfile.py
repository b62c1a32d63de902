"""Safetensors files, read by rows. Needs no torch.

The file is eight bytes with the length of the header, little-endian, the header, a JSON object of names with type,
shape and offsets, and the tensors one after another (https://github.com/huggingface/safetensors, section Format).

Rows are read where they lie, by one positioned read each, straight into the batch. Mapping the file into memory copies
no faster from the page cache, and takes nine times as long from a disk, as it faults page by page; and a disk that
fails is an error here, which names the file, not a signal that ends the process.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prx_scale.errors import InputError

_LONGEST_HEADER = 100_000_000
_MEND = "; the same prx-scale encode with --verify makes it again"
_TYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a tensor lies in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    """Byte in the file."""

    @property
    def row(self) -> int:
        """Bytes of one row: all but the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def mapped(file: Path, count: int) -> NDArray[Any]:
    """A .npy file, mapped into memory.

    Args:
        file: to read.
        count: numbers in it.

    Raises:
        InputError: it is missing, damaged, or has another count.
    """
    try:
        values = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    if values.shape != (count,):
        raise InputError(f"{file}: of shape {values.shape}, not ({count},)")
    return values


class TensorFile:
    """An open safetensors file."""

    def __init__(self, file: Path) -> None:
        """Open it and read its header.

        Args:
            file: to read.

        Raises:
            InputError: it is missing, no safetensors file, or cut short.
        """
        self.file = file
        try:
            self._handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        try:
            self.entries = self._read_header()
        except BaseException:
            os.close(self._handle)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def whole(self, name: str) -> NDArray[Any]:
        """A tensor.

        Args:
            name: of it.
        """
        entry = self.entries[name]
        values = np.empty(entry.shape, dtype=entry.dtype)
        if values.size:
            self._fill(values.data.cast("B"), entry.start)
        return values

    def rows(
        self, name: str, rows: NDArray[np.integer[Any]], out: NDArray[Any], places: NDArray[np.integer[Any]]
    ) -> None:
        """Some rows of a tensor into some rows of an array.

        Args:
            name: of the tensor.
            rows: (n,) which.
            out: contiguous, with rows of the same size.
            places: (n,) rows of `out` that they go to.
        """
        entry = self.entries[name]
        size, start = entry.row, entry.start
        if not size or not len(rows):
            return
        room = out.data.cast("B")
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            self._fill(room[place * size : (place + 1) * size], start + row * size)

    def span(self, name: str, first: int, stop: int, out: memoryview) -> None:
        """Rows next to each other.

        Args:
            name: of the tensor.
            first: row.
            stop: row to end before.
            out: bytes that they go to.
        """
        entry = self.entries[name]
        if stop > first and entry.row:
            self._fill(out[: (stop - first) * entry.row], entry.start + first * entry.row)

    def _fill(self, room: memoryview, start: int) -> None:
        try:
            got = os.preadv(self._handle, [room], start)
            while got < len(room):
                more = os.preadv(self._handle, [room[got:]], start + got)
                if not more:
                    raise InputError(f"{self.file}: ends before byte {start + len(room)}; it was cut short since")
                got += more
        except OSError as error:
            raise InputError(f"{self.file}: cannot be read ({error.strerror})") from error

    def _read_header(self) -> dict[str, Entry]:
        size = os.fstat(self._handle).st_size
        length = int.from_bytes(os.pread(self._handle, 8, 0), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise InputError(f"{self.file}: not a safetensors file, or cut short{_MEND}")
        try:
            header = json.loads(os.pread(self._handle, length, 8))
            header.pop("__metadata__", None)
            entries = {name: _entry(entry, 8 + length) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.file}: not a safetensors file, or damaged ({error}){_MEND}") from error
        end = max((each.start + math.prod(each.shape) * each.dtype.itemsize for each in entries.values()), default=0)
        if max(end, 8 + length) != size:
            raise InputError(f"{self.file}: {size} bytes where its header speaks of {end}; it was cut short or changed")
        return entries


def _entry(content: Any, data: int) -> Entry:
    start, end = content["data_offsets"]
    entry = Entry(
        dtype=_TYPES[content["dtype"]], shape=tuple(int(each) for each in content["shape"]), start=data + start
    )
    if min(entry.shape, default=0) < 0 or end - start != math.prod(entry.shape) * entry.dtype.itemsize:
        raise ValueError(f"{end - start} bytes for a shape of {list(entry.shape)}")
    return entry
