"""Cuts: conditions on scores, as in `aesthetic>=5` or `clip_similarity>=q0.2`, that samples must meet to be kept."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prx_scale.errors import InputError, nearest

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Kind = Literal["number", "text"]

DUPLICATE = "duplicate_of"
"""The column that names the copy which is kept; empty for samples that are no copies."""
RIGHT = (
    "right is SCORE, one of >= > <= < == !=, and a number or a quantile, as in aesthetic>=5 or clip_similarity>=q0.2; "
    f"'{DUPLICATE}==' keeps what is no copy"
)

_PATTERN = re.compile(
    r"(?P<column>[^\s<>=!]+)\s*(?P<sign>>=|<=|==|!=|>|<)(?P<value>.*?)(?P<none>\s+or\s+none)?", re.DOTALL
)
_QUANTILE = re.compile(r"q(?P<share>[\d.]+)")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A condition that samples must meet.

    A sample without the score does not meet it, unless the condition ends in `or none`. Text is only asked whether it
    is there: `column!=` or not: `column==`.
    """

    text: str
    """As it was written."""
    column: str
    sign: str
    number: float | None = None
    """The threshold, where it was given as a number."""
    quantile: float | None = None
    """Where it was given as one, of all samples that have the score."""
    or_none: bool = False

    @property
    def of_text(self) -> bool:
        """Whether it asks if a text is there."""
        return self.number is None and self.quantile is None


def parse_cut(text: str, option: str = "--cut") -> Cut:
    """Read a condition.

    Args:
        text: as in `aesthetic>=5`, `clip_similarity>=q0.2`, `watermark<0.5 or none`, `duplicate_of==`.
        option: what it was given to, for messages.

    Raises:
        InputError: it is none.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} '{text}': not a condition; {RIGHT}")
    column, sign, value = match["column"], match["sign"], match["value"].strip()
    shared = {"text": text.strip(), "column": column, "or_none": match["none"] is not None}
    if not value:
        if sign not in ("==", "!=") or match["none"]:
            raise InputError(f"{option} '{text}': no value after {sign}; {RIGHT}")
        return Cut(sign=sign, **shared)
    if quantile := _QUANTILE.fullmatch(value):
        share = _number(quantile["share"])
        if share is None or not 0 <= share <= 1:
            raise InputError(f"{option} '{text}': {value} is not a quantile; q0 to q1 are, as in {column}{sign}q0.2")
        return Cut(sign=sign, quantile=share, **shared)
    number = _number(value)
    if number is None:
        raise InputError(f"{option} '{text}': '{value}' is neither a number nor a quantile; {RIGHT}")
    return Cut(sign=sign, number=number, **shared)


def check_cut(cut: Cut, columns: Mapping[str, Kind], option: str = "--cut") -> None:
    """Refuse a condition that the scores cannot answer.

    Args:
        cut: the condition.
        columns: the kind of each score that there is.
        option: what it was given to, for messages.

    Raises:
        InputError: no such score, a text compared by size, or a number without a value.
    """
    if cut.column not in columns:
        raise InputError(f"{option} '{cut.text}': no score '{cut.column}'; {nearest(cut.column, columns)}")
    if columns[cut.column] == "text" and not cut.of_text:
        raise InputError(
            f"{option} '{cut.text}': {cut.column} is text; right is '{cut.column}==' (none) or '{cut.column}!=' (some)"
        )
    if columns[cut.column] == "number" and cut.of_text:
        raise InputError(f"{option} '{cut.text}': {cut.column} is a number; right is for example {cut.column}>=q0.2")


def threshold(cut: Cut, values: Floats) -> float:
    """The number that a condition compares with.

    Args:
        cut: on a number.
        values: (N,) the score of every sample; nan for those without.

    Returns:
        nan if it is a quantile and no sample has the score.
    """
    if cut.quantile is None:
        return math.nan if cut.number is None else cut.number
    known = values[~np.isnan(values)]
    return float(np.quantile(known, cut.quantile)) if len(known) else math.nan


def passes(cut: Cut, values: Floats, number: float) -> Mask:
    """Which samples meet a condition on a number.

    Args:
        cut: the condition.
        values: (N,) the score of every sample; nan for those without.
        number: its threshold.
    """
    missing = np.isnan(values)
    met = _COMPARE[cut.sign](values, number)
    return np.where(missing, cut.or_none, met)


def has_text(cut: Cut, there: Mask) -> Mask:
    """Which samples meet a condition on a text.

    Args:
        cut: the condition.
        there: (N,) whether a sample has the text.
    """
    return there if cut.sign == "!=" else ~there


def shown(cut: Cut, number: float) -> str:
    """A condition with its threshold as a number.

    Args:
        cut: the condition.
        number: its threshold.
    """
    if cut.of_text:
        return f"{'no' if cut.sign == '==' else 'has'} {cut.column}"
    return f"{cut.column} {cut.sign} {number:.4g}" + (" or none" if cut.or_none else "")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
