"""What a safetensors file holds, from its header alone; needs no torch.

The file is eight bytes with the length of the header, little-endian, the header, a JSON object of names with type,
shape and offsets, and the tensors one after another (https://github.com/huggingface/safetensors, section Format).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prx_scale.errors import InputError
from prx_scale.models.names import TensorShape

LONGEST_HEADER = 100_000_000
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True, kw_only=True)
class Described:
    """Type and shape of a tensor in a file."""

    file: Path
    dtype: str
    """As safetensors names it: F32."""
    shape: TensorShape
    start: int
    """Byte of the file that its numbers begin at."""


def read_header(file: Path) -> dict[str, Described]:
    """The tensors of a safetensors file.

    Args:
        file: the file.

    Raises:
        InputError: it is not a safetensors file, or was cut short.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise InputError(f"{file}: not a safetensors file, or cut short")
            header = json.loads(stream.read(length))
            if not isinstance(header, dict):
                raise ValueError("its header is not a JSON object")
            header = cast("dict[str, Any]", header)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not a safetensors file, or damaged ({error})") from error
    found = {
        name: _described(file, name, entry, 8 + length) for name, entry in header.items() if name != "__metadata__"
    }
    end = 8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name in found), default=0)
    if end != size:
        raise InputError(f"{file}: {size} bytes where its header speaks of {end}; it was cut short")
    return found


def _described(file: Path, name: str, entry: Any, data: int) -> Described:
    try:
        start, end = entry["data_offsets"]
        shape = tuple(int(each) for each in entry["shape"])
        described = Described(file=file, dtype=entry["dtype"], shape=shape, start=data + start)
        size = math.prod(described.shape) * BYTES.get(described.dtype, 0)
        if described.dtype in BYTES and end - start != size:
            raise ValueError(f"{end - start} bytes, {size} by its shape")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: {name}: damaged header ({error})") from error
    return described


def read_index(index: Path) -> dict[str, Described]:
    """The tensors of a model that is spread over several safetensors files.

    Args:
        index: the `.safetensors.index.json`, beside the files.

    Raises:
        InputError: it is not an index, a file is missing, or a tensor is not where the index says.
    """
    try:
        where: Mapping[str, Any] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {str(file) for file in where.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of safetensors files ({error})") from error
    if outside := [file for file in files if Path(file).name != file]:
        raise InputError(f"{index}: {outside[0]!r} is not a file beside it")
    headers = {file: read_header(index.parent / file) for file in sorted(files)}
    for name, file in where.items():
        if name not in headers[file]:
            raise InputError(f"{index}: {name} is not in {file}")
    return {name: headers[file][name] for name, file in where.items()}
