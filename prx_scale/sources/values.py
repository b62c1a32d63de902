"""Columns as numbers: units such as 1.3B are understood, and every value that is none is named with its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prx_scale.commands.text import SUFFIXES
from prx_scale.errors import InputError
from prx_scale.sources.columns import OPTIONAL, Column
from prx_scale.sources.sheet import LINE

if TYPE_CHECKING:
    import polars as pl

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_SHOWN = 10
_COUNTS = ("params", "data", "flops", "steps", "unique")
_MAY_BE_ZERO = ("weight",)


@dataclass(frozen=True, kw_only=True)
class Values:
    """Numbers of every column, and which rows are sound.

    Attributes:
        numbers: our column to its numbers, shape (n,); nan or worse in bad rows.
        columns: what they were read from.
        bad: rows with a value that cannot be used, shape (n,).
        faults: the first of them in sentence parts, ``row 3: column 'loss' is empty``.
        notices: guesses that were let go.
    """

    numbers: dict[str, FloatArray]
    columns: dict[str, Column]
    bad: BoolArray
    faults: tuple[str, ...]
    notices: tuple[str, ...]


def read(frame: pl.DataFrame, columns: Mapping[str, Column], source: str) -> Values:
    """Turn columns into numbers.

    Args:
        frame: the rows, with the column ``LINE``.
        columns: our column to the source's; the cluster is left out.
        source: its name, for notices.
    """
    numbers: dict[str, FloatArray] = {}
    used, notices = dict[str, Column](), list[str]()
    bad = np.zeros(len(frame), dtype=np.bool_)
    faults: list[tuple[int, str]] = []
    for key, column in columns.items():
        if key == "cluster":
            continue
        values = _product(frame, column, units=key in _COUNTS)
        wrong = ~(np.isfinite(values) & ((values >= 0) if key in _MAY_BE_ZERO else (values > 0)))
        if key in OPTIONAL and column.guessed and wrong.any():
            notices.append(
                f"{source}: '{column.text}' is not used as {key}: not all of its values are positive numbers"
            )
            continue
        numbers[key], used[key] = values, column
        bad |= wrong
        faults += [(int(row), _fault(frame, int(row), key, column, values)) for row in np.flatnonzero(wrong)[:_SHOWN]]
    faults.sort()
    lines = tuple(f"row {frame[LINE][row]}: {text}" for row, text in faults[:_SHOWN])
    return Values(numbers=numbers, columns=used, bad=bad, faults=lines, notices=tuple(notices))


def refuse(values: Values, source: str) -> None:
    """Refuse a source with bad rows.

    Raises:
        InputError: names up to ten of them, with row, column and what is wrong.
    """
    count, first = int(values.bad.sum()), values.faults[0]
    mend = "mend it, leave it out with --where, or drop it with --drop-bad-rows"
    if count == 1:
        raise InputError(f"{source}, {first}; {mend}")
    more = f"\n  and more; {count} in all" if count > len(values.faults) else ""
    listed = "".join(f"\n  {source}, {fault}" for fault in values.faults)
    mend = mend.replace(" it", " them")
    raise InputError(f"{source}: {count} of {len(values.bad)} rows cannot be used:{listed}{more}\n{mend}")


def _product(frame: pl.DataFrame, column: Column, *, units: bool) -> FloatArray:
    product = np.full(len(frame), column.factor)
    for name in column.names:
        product *= to_numbers(frame[name], units=units)
    return product


def to_numbers(column: pl.Series, *, units: bool) -> FloatArray:
    """A column as numbers, shape (n,); nan where it holds none.

    Args:
        column: of any type.
        units: whether ``1.3B`` and ``40M`` are numbers, as they are where something is counted.
    """
    import polars as pl

    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    texts = column.cast(pl.String).str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    if units and numbers.null_count() > texts.null_count():
        pattern = rf"^([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([{''.join(SUFFIXES)}{''.join(SUFFIXES).upper()}])$"
        factors = texts.str.extract(pattern, 2).str.to_lowercase().replace_strict(SUFFIXES, default=None)
        numbers = numbers.fill_null(texts.str.extract(pattern, 1).cast(pl.Float64, strict=False) * factors)
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def _fault(frame: pl.DataFrame, row: int, key: str, column: Column, values: FloatArray) -> str:
    for name in column.names:
        value: Any = frame[name][row]
        number = float(to_numbers(frame[name][row : row + 1], units=key in _COUNTS)[0])
        if value is None or value == "":
            return f"column '{name}' is empty"
        if np.isnan(number) and str(value).strip().lower() not in ("nan", "-nan", "+nan"):
            return f"column '{name}' is {value!r}, not a number"
        if not np.isfinite(number) or number < 0 or (number == 0 and key not in _MAY_BE_ZERO):
            kind = "not negative" if key in _MAY_BE_ZERO else "positive"
            return f"column '{name}' is {value}, and {key} must be finite and {kind}"
    return f"'{column.text}' is {values[row]}, and {key} must be finite and positive"
