"""Minima of any law of parameters and data along a curve of equal training cost c(N) D = C, found numerically.

For cost k N D and an additive law the closed form of :mod:`scaling.allocation` gives the same; this is for every other
law and for measured costs, and for all resamples of a fit at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.cost import Cost
from scaling.errors import FitInputError
from scaling.laws.base import Law
from scaling.points import FloatArray

_AXES = ("params", "data", "flops", "unique")
_GRID = 161
_ENOUGH = 1e-5  # spacing in log N: the vertex of a parabola is then exact to rounding
_WORTH = 0.7  # a window that shrinks by less than this is not narrowed again
_BUDGETS = 121


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A fitted law in the plane of size and data.

    Attributes:
        law: the law.
        natural: its parameters, shape (b, p): one row for the estimate, or one per resample.
        flops_per: k in C = k N D, for laws in compute; None where it is unknown.
        unique: distinct samples that there are, for laws of repeated data; None where every sample is fresh.
    """

    law: Law
    natural: FloatArray
    flops_per: float | None
    unique: float | None = None

    def __post_init__(self) -> None:
        foreign = [axis for axis in self.law.axes if axis not in _AXES]
        if foreign or not {"params", "data"} <= set(self.law.axes):
            raise FitInputError(
                f"law '{self.law.name}' does not say how size and data trade off: it is a law of"
                f" {', '.join(self.law.axes)}; fit one of params and data, such as chinchilla"
            )
        if "flops" in self.law.axes and self.flops_per is None:
            raise FitInputError(f"law '{self.law.name}' predicts from compute: give the points a flops column")

    def log_loss(self, log_params: FloatArray, log_data: FloatArray) -> FloatArray:
        """Log loss at m places, shape (b, m)."""
        unique = log_data if self.unique is None else np.full_like(log_data, np.log(self.unique))
        columns = {"params": log_params, "data": log_data, "unique": unique}
        if "flops" in self.law.axes and self.flops_per is not None:
            columns["flops"] = np.log(self.flops_per) + log_params + log_data
        return np.log(self.law.predict(self.natural, np.stack([columns[axis] for axis in self.law.axes])))


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Optima along one curve, one per row of parameters.

    Attributes:
        log_params: log N*, shape (b,).
        log_data: log D*, shape (b,).
        log_loss: log L*, shape (b,).
        edge: the optimum stands at the edge of the search, shape (b,).
    """

    log_params: FloatArray
    log_data: FloatArray
    log_loss: FloatArray
    edge: npt.NDArray[np.bool_]


def minimise(surface: Surface, cost: Cost, flops: float, window: tuple[float, float]) -> Minima:
    """Least loss along c(N) D = C.

    A grid over log N is narrowed to the optima of all rows until it is fine enough, and ends with the vertex of the
    parabola through the three best places of each row.

    Args:
        surface: the law, one row of parameters or many.
        cost: FLOPs of one sample.
        flops: training budget C in FLOPs.
        window: least and greatest N searched.

    Returns:
        The optimum of every row of parameters.
    """
    low, high = float(np.log(window[0])), float(np.log(window[1]))
    grid, value = _zoom(surface, cost, flops, low, high)
    step = float(grid[1] - grid[0])
    best, rows = value.argmin(axis=1), np.arange(len(value))
    inner = np.clip(best, 1, _GRID - 2)
    before, here, after = value[rows, inner - 1], value[rows, inner], value[rows, inner + 1]
    bend = before - 2.0 * here + after
    valley = (bend > 0.0) & (best == inner)
    shift = np.where(valley, 0.5 * (before - after) / np.where(valley, bend, 1.0), 0.0)
    log_params: FloatArray = grid[best] + shift * step
    return Minima(
        log_params=log_params,
        log_data=np.log(flops) - cost.log_per_sample(log_params),
        log_loss=value[rows, best] - np.where(valley, 0.25 * (before - after) * shift, 0.0),
        edge=(grid[best] <= low + step) | (grid[best] >= high - step),
    )


def _zoom(surface: Surface, cost: Cost, flops: float, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """The finest grid over log N that still holds the optimum of every row, and the log losses on it."""
    left, right = low, high
    while True:
        grid: FloatArray = np.linspace(left, right, _GRID, dtype=np.float64)
        value = surface.log_loss(grid, np.log(flops) - cost.log_per_sample(grid))
        best, step = value.argmin(axis=1), (right - left) / (_GRID - 1)
        # Two cells of room keep every row's optimum and its neighbours inside the next window.
        narrow = max(float(grid[best.min()]) - 2 * step, low), min(float(grid[best.max()]) + 2 * step, high)
        if step < _ENOUGH or narrow[1] - narrow[0] > _WORTH * (right - left):
            return grid, value
        left, right = narrow


def equivalent_budgets(
    surface: Surface, cost: Cost, log_loss: FloatArray, flops: float, window: tuple[float, float]
) -> FloatArray:
    """Budgets at which the optimum has given losses.

    Args:
        surface: the law, one row of parameters.
        cost: FLOPs of one sample.
        log_loss: of runs that cost ``flops`` each, so no answer is above it, shape (m,).
        flops: that cost.
        window: least and greatest N searched.

    Returns:
        Budgets in FLOPs, shape (m,); nan where even a millionth of ``flops`` does better.
    """
    # Denser near ``flops``, where most answers are; between the places log C is linear in log L to about 1e-4.
    budgets: FloatArray = np.log(flops) - np.log(1e6) * np.linspace(0.0, 1.0, _BUDGETS, dtype=np.float64) ** 2
    least = np.array([float(minimise(surface, cost, float(np.exp(each)), window).log_loss[0]) for each in budgets])
    found: FloatArray = np.exp(np.interp(log_loss, least, budgets, right=np.nan))
    return found
