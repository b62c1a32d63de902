"""Plain files that are safe to read while they are written, and when that was cut short by a kill.

Whole files are replaced at once. Rows of JSON lines are added in a single write, and a last line that a kill tore is
cut off before the next row, and skipped by who reads it.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from prx_scale.errors import InputError


def write_atomically(path: Path, text: str) -> None:
    """Write a file as a whole or not at all: a reader never sees half of it.

    Args:
        path: the file; its folder is made where it does not exist.
        text: the content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def append_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a JSON-lines file in a single write, so that a kill leaves all of them or a torn tail.

    Args:
        path: the file; its folder is made where it does not exist.
        rows: JSON objects.
    """
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def drop_torn_tail(path: Path) -> None:
    """Cut off what a kill left of a row at the end of a JSON-lines file: it would spoil the next.

    Args:
        path: the file; a missing one has no tail.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a torn last line is skipped with a warning.

    Args:
        path: the file; a missing one has no rows.

    Raises:
        InputError: a line before the last is not JSON.
    """
    return list(intact_rows(path, quiet=False)) if path.exists() else []


def intact_rows(path: Path, quiet: bool) -> Iterable[dict[str, Any]]:
    """The rows of a JSON-lines file that is there, one after the other.

    Args:
        path: the file.
        quiet: skip a torn last line without a warning.

    Raises:
        InputError: a line before the last is not JSON.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                if not quiet:
                    warnings.warn(f"{path}: skipped its last line, which was cut short", stacklevel=3)
                return
            raise InputError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: not a JSON object")
        yield cast("dict[str, Any]", row)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
