"""Files that are there whole or not at all: drafts that take their place when all of them is on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_NUMPY: dict[str, str] = {"<f4": "F32", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8"}
"""safetensors' names of numpy's types."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor to be written, in parts that lie one after another along its first axis."""

    parts: Sequence[NDArray[Any]]
    """At least one."""
    code: str = ""
    """Its type in the file; needed where numpy does not know it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all parts together."""
        return (sum(len(part) for part in self.parts), *self.parts[0].shape[1:])

    @property
    def bytes(self) -> int:
        """Of all parts together."""
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a file holds now."""

    bytes: int
    sha256: str


class _Hashed:
    """Writes, counts and hashes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._digest, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def written(self) -> Written:
        return Written(bytes=self.bytes, sha256=self._digest.hexdigest())


@contextmanager
def replacing(file: Path) -> Generator[BinaryIO]:
    """A file that takes its place when all of it is on the disk.

    Args:
        file: to write.

    Yields:
        The stream to write to.
    """
    draft = draft_of(file)
    try:
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(file.parent)


def draft_of(file: Path) -> Path:
    """The name that a file of this process has until it is whole.

    Args:
        file: to write.
    """
    return file.with_name(f".{file.name}.{host()}.{os.getpid()}.part")


def host() -> str:
    """The name of this machine, without dots."""
    return os.uname().nodename.replace(".", "-")


def _sync_folder(folder: Path) -> None:
    """Without this a rename may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(file: Path, data: bytes) -> Written:
    """Write a small file.

    Args:
        file: to write.
        data: all of it.
    """
    with replacing(file) as stream:
        hashed = _Hashed(stream)
        hashed.write(data)
        return hashed.written()


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> Written:
    """Write a safetensors file.

    Args:
        file: to write.
        tensors: by name, in the order that they are to have.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.bytes
        code = tensor.code or _NUMPY[tensor.parts[0].dtype.str]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with replacing(file) as stream:
        hashed = _Hashed(stream)
        hashed.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for part in tensor.parts:
                if part.size:
                    hashed.write(np.ascontiguousarray(part).data.cast("B"))
        return hashed.written()


def hash_file(file: Path) -> Written:
    """Read a file again.

    Args:
        file: to read.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Written(bytes=file.stat().st_size, sha256=digest)
