"""Row filters from the command line: ``--where split=heldout``, ``--where params>=1e8``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

_PATTERN = re.compile(r"^(?P<column>.+?)\s*(?P<sign>>=|<=|!=|==|=|>|<)\s*(?P<value>.*)$")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_SHOWN_VALUES = 8


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition on one column: ``column sign value``."""

    column: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"


def parse_condition(text: str) -> Condition:
    """Read ``column=value``, or with ``!= >= <= > <``.

    Raises:
        InputError: the text is not a condition.
    """
    match = _PATTERN.match(text.strip())
    if match is None:
        raise InputError(f"--where {text}: expected a condition such as split=heldout or params>=1e8")
    return Condition(**match.groupdict())


def keep_rows(frame: pl.DataFrame, condition: Condition, source: str) -> pl.DataFrame:
    """The rows of a frame that meet a condition.

    Numbers compare as numbers (1e9 equals 1000000000), true and false in any case, the rest as text.

    Args:
        frame: the table.
        condition: what rows must meet.
        source: name of the file, for messages.

    Raises:
        InputError: no such column, text compared by size, or no row meets the condition.
    """
    if condition.column not in frame.columns:
        hint = nearest(condition.column, frame.columns)
        raise InputError(f"{source}: --where {condition}: no column '{condition.column}'; {hint}")
    kept = frame.filter(_mask(frame[condition.column], condition, source))
    if kept.is_empty() and not frame.is_empty():
        values = sorted({str(value) for value in frame[condition.column].to_list()})
        listed = ", ".join(values[:_SHOWN_VALUES]) + (", ..." if len(values) > _SHOWN_VALUES else "")
        raise InputError(f"{source}: no rows left after --where {condition}; '{condition.column}' holds {listed}")
    return kept


def keep_all(frame: pl.DataFrame, conditions: Sequence[Condition], source: str) -> pl.DataFrame:
    """The rows that meet every condition; see :func:`keep_rows`."""
    for condition in conditions:
        frame = keep_rows(frame, condition, source)
    return frame


def _mask(column: pl.Series, condition: Condition, source: str) -> pl.Series:
    import polars as pl

    compare = _COMPARE[condition.sign]
    number = _as_number(condition.value)
    if number is not None:
        values = column if column.dtype.is_numeric() else column.cast(pl.String).str.strip_chars()
        numbers = values.cast(pl.Float64, strict=False)
        if numbers.null_count() < len(numbers) or len(numbers) == 0:
            return compare(numbers, number).fill_null(condition.sign == "!=")
    if condition.sign not in ("=", "==", "!="):
        raise InputError(f"{source}: --where {condition}: {condition.sign} compares numbers, and these are not")
    texts = column.cast(pl.String).str.strip_chars()
    if condition.value.lower() in ("true", "false"):
        texts = texts.str.to_lowercase()
        return compare(texts, condition.value.lower()).fill_null(condition.sign == "!=")
    return compare(texts, condition.value).fill_null(condition.sign == "!=")


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
