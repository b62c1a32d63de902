"""The folders that W&B keeps beside a run: ``wandb/offline-run-*/run-*.wandb``, also those of runs that were online.

A file is a log in LevelDB's format (blocks of 32 KiB; records of checksum, length, type and data, split where a
block ends) after a header of 7 bytes, and each record is a protobuf message that the wandb package defines.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError
from prx_scale.sources.logs import LoggedRun, as_sheet, flatten
from prx_scale.sources.sheet import Sheet

RUNS = "run-*.wandb"

_MAGIC = b":W&B\xe1\xbe"
_START = 7
_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def open_wandb(path: Path) -> Sheet:
    """Read the runs below a folder.

    Raises:
        InputError: wandb is not installed, a file is damaged, or nothing was logged.
    """
    try:
        from wandb.proto import wandb_internal_pb2
    except ModuleNotFoundError as error:
        message = "reading W&B run folders needs wandb: pip install 'prx-scale[logs]', or export the runs as CSV"
        raise InputError(f"{path}: {message}") from error
    messages: Any = wandb_internal_pb2  # protobuf makes its classes when it is imported
    # latest-run is a link to one of the others.
    files = sorted(file for file in path.rglob(RUNS) if path.is_symlink() or "latest-run" not in file.parts)
    return as_sheet(str(path), [_read(file, messages.Record) for file in files])


def records(content: bytes, name: str) -> Iterator[bytes]:
    """The records of a file; ends early, with EOFError, where the last one is not complete.

    Raises:
        InputError: not a file of W&B, or a checksum does not hold.
        EOFError: the file ends in the middle of a record.
    """
    if not content.startswith(_MAGIC):
        raise InputError(f"{name}: not a run file of W&B")
    position, parts, kind = _START, list[bytes](), _FULL
    while position < len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # too small for a header: zeros up to the next block
            position += left
            continue
        data, kind = _fragment(content, position, name)
        position += _HEADER.size + len(data)
        parts = [data] if kind in (_FULL, _FIRST) else [*parts, data]
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
    if parts and kind not in (_FULL, _LAST):
        raise EOFError


def _fragment(content: bytes, position: int, name: str) -> tuple[bytes, int]:
    if position + _HEADER.size > len(content):
        raise EOFError
    checksum, length, kind = _HEADER.unpack_from(content, position)
    data = content[position + _HEADER.size : position + _HEADER.size + length]
    if len(data) < length or kind == 0:
        raise EOFError
    if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
        raise InputError(f"{name}: damaged at byte {position}: a checksum does not hold")
    return data, kind


def _read(file: Path, message: Any) -> LoggedRun:
    name, config = file.stem.removeprefix("run-"), dict[str, Any]()
    steps: dict[int, dict[str, float]] = {}
    rewritten, torn = 0, False
    try:
        for content in records(file.read_bytes(), str(file)):
            record = message.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name or record.run.run_id or name
            if kind in ("run", "config"):
                updates = (record.run.config if kind == "run" else record.config).update
                config |= {_key(item): json.loads(item.value_json) for item in updates}
            elif kind == "history":
                values = {_key(item): json.loads(item.value_json) for item in record.history.item}
                row = steps.setdefault(int(values.get("_step", record.history.step.num)), {})
                numbers = {key: float(value) for key, value in values.items() if _is_scalar(key, value)}
                rewritten += len(row.keys() & numbers.keys())
                row |= numbers
    except EOFError:
        torn = True
    config.pop("_wandb", None)
    return LoggedRun(name=name, steps=steps, config=flatten(config), rewritten=rewritten, torn=torn)


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _is_scalar(key: str, value: Any) -> bool:
    """Whether an item is a number of the user's; what is not finite may be written as a text."""
    if isinstance(value, str):
        return value in ("NaN", "Infinity", "-Infinity")
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not key.startswith("_")
