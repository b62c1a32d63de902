"""Which rows were trained with the same compute: measured FLOPs grouped into budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.points import FloatArray

TOLERANCE = 0.1
_EXACT = 5e-3  # rows that share a budget exactly, rounding of printed numbers aside
_MOSTLY = 0.8
_LEAST = 3  # rows that make a budget: fewer have no minimum to look for


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Rows by budget.

    Attributes:
        flops: the budgets in ascending order, shape (k,).
        codes: number of the budget of every row, shape (n,); -1 for a row that belongs to none.
        found: how the budgets were found, in words.
    """

    flops: FloatArray
    codes: npt.NDArray[np.intp]
    found: str


def group(flops: FloatArray, given: Sequence[float] | None = None, tolerance: float = TOLERANCE) -> Budgets:
    """Snap measured compute to budgets.

    Given budgets are taken as they are: a row belongs to the nearest (in log C) where it lies within ``tolerance`` of
    it. Otherwise budgets are looked for: where most rows share their compute exactly, every shared value is a budget;
    else the densest window of that tolerance is taken, its rows are put aside, and so on while a window has at least
    three rows and half as many as are usual so far. The budget is then the median of its rows. A nominal budget that is
    known is better given than found.

    Args:
        flops: training FLOPs of every row, shape (n,).
        given: nominal budgets in FLOPs.
        tolerance: relative distance to a budget that a row may have.

    Raises:
        FitInputError: no row belongs to a budget, or the tolerance is out of range.
    """
    if not 0.0 < tolerance < 1.0:
        raise FitInputError(f"tolerance is {tolerance}: how far from its budget a row may lie is between 0 and 1")
    if given is not None and len(given):
        budgets = _snap(flops, np.unique(np.asarray(given, dtype=np.float64)), tolerance)
    else:
        budgets = _shared(flops) or _dense(flops, tolerance)
    if not bool((budgets.codes >= 0).any()):
        raise FitInputError(
            f"no budget: nowhere do {_LEAST} runs lie within {tolerance:.0%} of one compute; an isoFLOP analysis needs"
            " several sizes at each of several budgets (name the budgets, or widen the tolerance)"
        )
    return budgets


def _snap(flops: FloatArray, budgets: FloatArray, tolerance: float) -> Budgets:
    if not bool(np.all(np.isfinite(budgets) & (budgets > 0))):
        raise FitInputError(f"budgets are {budgets.tolist()}: each must be a positive number of FLOPs")
    nearest = np.abs(np.log(flops[:, None]) - np.log(budgets)).argmin(axis=1)
    near = np.abs(flops / budgets[nearest] - 1.0) <= tolerance
    return Budgets(flops=budgets, codes=np.where(near, nearest, -1), found=f"given, rows within {tolerance:.0%}")


def _shared(flops: FloatArray) -> Budgets | None:
    """Budgets that rows share exactly; None where most rows do not."""
    order = np.argsort(flops, kind="stable")
    chain = np.concatenate([[0], np.cumsum(np.diff(np.log(flops[order])) > _EXACT)])
    label = np.empty(len(flops), dtype=np.intp)
    label[order] = chain
    large = np.bincount(label) >= _LEAST
    if large[label].mean() < _MOSTLY:
        return None
    return _numbered(flops, np.where(large[label], label, -1), "shared by rows")


def _dense(flops: FloatArray, tolerance: float) -> Budgets:
    """Budgets as the densest windows, one after the other."""
    log_flops, reach = np.log(flops), float(np.log1p(tolerance))
    label = np.full(len(flops), -1, dtype=np.intp)
    sizes: list[int] = []
    while bool((label < 0).any()):
        free = np.sort(log_flops[label < 0])
        counts = np.searchsorted(free, free + 2.0 * reach, side="right") - np.arange(len(free))
        first = int(counts.argmax())
        if counts[first] < max([_LEAST, 0.5 * float(np.median(sizes))] if sizes else [_LEAST]):
            break
        # The window is re-centred on its median, which nominal budgets are nearer to than its middle.
        middle = float(np.median(free[first : first + int(counts[first])]))
        label[(label < 0) & (np.abs(log_flops - middle) <= reach)] = len(sizes)
        sizes.append(int(counts[first]))
    return _numbered(flops, label, f"densest windows of {tolerance:.0%}")


def _numbered(flops: FloatArray, label: npt.NDArray[np.intp], found: str) -> Budgets:
    """Budgets in ascending order, each the median of its rows."""
    names = np.unique(label[label >= 0])
    middle = np.array([float(np.median(flops[label == name])) for name in names])
    order = np.argsort(middle)
    codes = np.full(len(flops), -1, dtype=np.intp)
    for number, position in enumerate(order):
        codes[label == names[position]] = number
    return Budgets(flops=middle[order], codes=codes, found=found)
