"""Write weights one tensor at a time, in one file or several, and folders as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from prx_scale.errors import InputError
from prx_scale.models.convert.tensors import Read
from prx_scale.models.names import TensorShape

FLOAT_BYTES = 4
SHARD_BYTES = 5_000_000_000
"""Above this, weights are spread over several files, as diffusers does."""

Shapes = Mapping[str, TensorShape]


def write_safetensors(file: Path, shapes: Shapes, read: Read) -> dict[str, str]:
    """Write float32 tensors; one is in memory at a time.

    Args:
        file: to write.
        shapes: of the tensors, in their order.
        read: gives each.

    Returns:
        SHA-256 of each tensor's bytes.

    Raises:
        InputError: a weight is not a finite number.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + FLOAT_BYTES * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digests: dict[str, str] = {}
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            data = _bytes(name, shape, read)
            digests[name] = hashlib.sha256(data).hexdigest()
            stream.write(data)
    return digests


def _bytes(name: str, shape: TensorShape, read: Read) -> bytes:
    value = read(name).detach().to("cpu", torch.float32).contiguous()
    assert tuple(value.shape) == shape, f"{name}: {tuple(value.shape)}, not {shape}"
    if not value.isfinite().all():
        raise InputError(f"{name}: has weights that are not finite numbers")
    return value.numpy().astype("<f4", copy=False).tobytes()


def write_weights(folder: Path, stem: str, shapes: Shapes, read: Read, limit: int = SHARD_BYTES) -> dict[str, str]:
    """Write tensors as `<stem>.safetensors`, or as several files with an index where they are larger than the limit.

    Args:
        folder: to write to.
        stem: of the files' names.
        shapes: of the tensors.
        read: gives each.
        limit: bytes of one file.

    Returns:
        SHA-256 of each tensor's bytes.
    """
    parts = shards(shapes, limit)
    if len(parts) == 1:
        return write_safetensors(folder / f"{stem}.safetensors", shapes, read)
    digests: dict[str, str] = {}
    where: dict[str, str] = {}
    for number, names in enumerate(parts, start=1):
        file = f"{stem}-{number:05d}-of-{len(parts):05d}.safetensors"
        digests |= write_safetensors(folder / file, {name: shapes[name] for name in names}, read)
        where |= dict.fromkeys(names, file)
    size = FLOAT_BYTES * sum(math.prod(shape) for shape in shapes.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    write_json(folder / f"{stem}.safetensors.index.json", index)
    return digests


def shards(shapes: Shapes, limit: int) -> list[list[str]]:
    """Names in files of at most so many bytes, in order; a tensor larger than that has a file of its own.

    Args:
        shapes: of the tensors.
        limit: bytes of one file.
    """
    parts: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        bytes_ = FLOAT_BYTES * math.prod(shape)
        if parts[-1] and size + bytes_ > limit:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += bytes_
    return parts


def content_hash(digests: Mapping[str, str], shapes: Shapes) -> str:
    """One hash of all weights, whatever files and order they are in.

    Args:
        digests: SHA-256 of each tensor's bytes, float32, little-endian.
        shapes: of the tensors.
    """
    lines = sorted(f"{name} {list(shapes[name])} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_json(file: Path, content: object) -> None:
    """Write JSON for people.

    Args:
        file: to write.
        content: what `json` takes.
    """
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(out: Path, *, overwrite: bool, marker: str) -> Generator[Path]:
    """A new folder beside the one that is wanted, which takes its place when all is written, and goes when it is not.

    Args:
        out: the folder that is wanted.
        overwrite: replace it where it is there.
        marker: the file by which a folder that may be replaced is known.

    Yields:
        The folder to write into.

    Raises:
        InputError: there is something else already.
    """
    check_free(out, overwrite=overwrite, marker=marker)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename a folder over another, which comes back where that fails."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    replaced = out.exists()
    if replaced:
        os.replace(out, old)
    try:
        os.replace(partial, out)
    except OSError:
        if replaced:
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_free(out: Path, *, overwrite: bool, marker: str) -> None:
    """Refuse a folder that is there, unless it may be replaced and was written by us.

    Args:
        out: the folder that is wanted.
        overwrite: it may be replaced.
        marker: the file by which a folder that may be replaced is known.

    Raises:
        InputError: there is something else already.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; choose another --out")
    if not overwrite:
        raise InputError(f"{out}: is not empty; --overwrite replaces it, or choose another --out")
    if not (out / marker).exists():
        raise InputError(f"{out}: has no {marker}, so it was not written by this verb and is not replaced")
