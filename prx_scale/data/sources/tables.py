"""What Parquet and Arrow files share: columns by name, rows as records."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prx_scale.data.sources.fields import CAPTIONS, IMAGES, LABELS, SIZES, Fields, Record
from prx_scale.data.sources.files import is_url, local_path
from prx_scale.errors import InputError, nearest

_USUAL = (*IMAGES, *CAPTIONS, *LABELS, *(name for pair in SIZES for name in pair))


def arrow_library(path: str) -> Any:
    """pyarrow.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading it needs pyarrow: pip install 'prx-scale[train]'") from error


def columns_of(path: str, names: Sequence[str], fields: Fields) -> list[str]:
    """The columns that are worth reading: those that hold a field.

    Args:
        path: for messages.
        names: columns that there are.
        fields: which field is what.

    Raises:
        InputError: a field that was named is in no column.
    """
    for name in fields.named():
        if not any(_holds(column, name) for column in names):
            raise InputError(f"{path}: no column holds '{name}'; {nearest(name, names)}")
    asked = (*fields.named(), *_USUAL)
    return [column for column in names if any(_holds(column, name) for name in asked)]


def row_of(table: Any, row: int) -> Record:
    """One row of a pyarrow table as a record."""
    return {name: table.column(at)[row].as_py() for at, name in enumerate(table.column_names)}


def beside(path: str) -> Callable[[str], bytes | None]:
    """Reads images that the rows of a file name by path: absolute, or from the file's folder."""
    if is_url(path) and not path.startswith("file://"):
        return lambda name: None
    folder = Path(local_path(path)).parent

    def read(name: str) -> bytes | None:
        try:
            return (folder / os.path.expanduser(name)).read_bytes()
        except (OSError, ValueError):
            return None

    return read


def _holds(column: str, name: str) -> bool:
    return name == column or name.startswith(f"{column}.")
