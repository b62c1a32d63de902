"""Resampling weights: which of the kept samples are seen more often than others."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.filters.cuts import DUPLICATE, Cut, Floats, Kind, Mask, check_cut, parse_cut, passes, threshold
from prx_scale.errors import InputError, nearest

Weights = NDArray[np.float64]
Codes = NDArray[np.int64]

RIGHT = "right is CONDITION:FACTOR, as in aesthetic>=q0.9:2, or inverse:COLUMN, as in inverse:cluster^0.5"

_INVERSE = re.compile(r"inverse:(?P<column>[^\s^]+)(?:\^(?P<power>.*))?")


@dataclass(frozen=True, kw_only=True)
class Boost:
    """Samples that meet a condition weigh so many times as much."""

    text: str
    cut: Cut
    factor: float

    @property
    def column(self) -> str:
        """The score that it looks at."""
        return self.cut.column


@dataclass(frozen=True, kw_only=True)
class Inverse:
    """Samples weigh by how rare the value that they have in a column is: count^-power."""

    text: str
    column: str
    power: float = 1.0


Weight = Boost | Inverse


def parse_weight(text: str, option: str = "--weight") -> Weight:
    """Read a weight.

    Args:
        text: as in `aesthetic>=q0.9:2`, `inverse:cluster`, `inverse:label^0.5`.
        option: what it was given to, for messages.

    Raises:
        InputError: it is none.
    """
    text = text.strip()
    if match := _INVERSE.fullmatch(text):
        power = _positive("1" if match["power"] is None else match["power"])
        if power is None:
            raise InputError(f"{option} '{text}': '{match['power']}' is not a power above 0; {RIGHT}")
        return Inverse(text=text, column=match["column"], power=power)
    condition, colon, written = text.rpartition(":")
    factor = _positive(written)
    if not colon or factor is None:
        raise InputError(f"{option} '{text}': no factor above 0 after a colon; {RIGHT}")
    cut = parse_cut(condition, option)
    return Boost(text=text, cut=cut, factor=factor)


def check_weight(weight: Weight, columns: Mapping[str, Kind], option: str = "--weight") -> None:
    """Refuse a weight that the scores cannot answer.

    Args:
        weight: the weight.
        columns: the kind of each score that there is.
        option: what it was given to, for messages.

    Raises:
        InputError: no such score, or a condition that does not suit it.
    """
    if isinstance(weight, Boost):
        check_cut(weight.cut, columns, option)
        if weight.cut.of_text:
            raise InputError(
                f"{option} '{weight.text}': {weight.column} is text; inverse:{weight.column} weights by it"
            )
    elif weight.column == DUPLICATE:
        raise InputError(f"{option} '{weight.text}': names a copy, which is no group; {RIGHT}")
    elif weight.column not in columns:
        raise InputError(f"{option} '{weight.text}': no column '{weight.column}'; {nearest(weight.column, columns)}")


def boosted(weight: Boost, values: Floats, keep: Mask) -> tuple[Weights, float]:
    """Factors of a condition, and its threshold, a quantile being one of the kept samples.

    Args:
        weight: on a number.
        values: (N,) the score of every sample; nan for those without.
        keep: (N,) which samples are kept.
    """
    number = threshold(weight.cut, values[keep])
    return np.where(passes(weight.cut, values, number), weight.factor, 1.0), number


def rarity(weight: Inverse, codes: Codes, keep: Mask) -> Weights:
    """Factors by inverse frequency, 1 on average over the kept samples that have a value, and 1 for those that lack it.

    Args:
        weight: on a column.
        codes: (N,) number of the value of every sample; below 0 for those without.
        keep: (N,) which samples are kept; only they are counted.
    """
    factors, known = np.ones(len(codes)), keep & (codes >= 0)
    if known.any():
        counts = np.bincount(codes[known])
        raw = counts[codes[known]].astype(np.float64) ** -weight.power
        factors[known] = raw / raw.mean()
    return factors


def normalised(factors: Weights, keep: Mask) -> NDArray[np.float32]:
    """Weights that are 1 on average over the kept samples, and 0 for the others.

    Args:
        factors: (N,) in any unit, above 0.
        keep: (N,) which samples are kept.
    """
    weights = np.where(keep, factors, 0.0)
    total = weights.sum()
    return (weights * (keep.sum() / total) if total else weights).astype(np.float32)


def effective(weights: NDArray[np.float32]) -> float:
    """Effective number of samples, (sum w)^2 / sum w^2 (Kish 1965).

    Args:
        weights: (N,) not below 0.
    """
    squares = float(np.square(weights, dtype=np.float64).sum())
    return float(weights.sum(dtype=np.float64)) ** 2 / squares if squares else 0.0


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
