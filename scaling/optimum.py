"""Where a swept hyperparameter is best: the vertex of a parabola in its logarithm, with what seeds say about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError

OCTAVES = 1.0
"""The parabola sees values within this many doublings of the best one measured; beyond, losses rise unevenly."""
LEAST_VALUES = 3
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best value of a hyperparameter along one curve."""

    value: float
    """Vertex of the parabola through the mean losses, or the best value measured where that is at an end."""
    loss: float
    """At the vertex, or the mean measured there."""
    stderr_octaves: float | None
    """Standard error of log2(value), a jackknife over seeds; None with one seed or at an end."""
    interior: bool
    """The best value measured is not at an end of the sweep, and the parabola opens upwards."""
    seeds: int


def optimum(values: Sequence[float], losses: Sequence[float], seeds: Sequence[int]) -> Optimum:
    """The vertex of loss = a + b log2(value) + c log2(value)^2, least squares, around the best mean over seeds.

    Args:
        values: the hyperparameter of every run, positive.
        losses: final loss of every run.
        seeds: of every run.

    Raises:
        FitInputError: fewer than three different values.
    """
    x, y, s = np.log2(np.asarray(values, float)), np.asarray(losses, float), np.asarray(seeds)
    if len(np.unique(x)) < LEAST_VALUES:
        raise FitInputError(f"an optimum needs at least {LEAST_VALUES} different values, found {len(np.unique(x))}")
    grid, means = _means(x, y)
    best, names = int(means.argmin()), np.unique(s)
    place, loss = _vertex(grid, means, grid[best])
    interior = 0 < best < len(grid) - 1 and place is not None
    error = _jackknife(x, y, s, grid[best]) if interior and len(names) > 1 else None
    return Optimum(
        value=float(2 ** (place if interior and place is not None else grid[best])),
        loss=loss if interior else float(means[best]),
        stderr_octaves=error,
        interior=interior,
        seeds=len(names),
    )


def _means(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Every different value, ascending, and the mean of what was measured there."""
    grid = np.unique(x)
    return grid, np.array([y[x == at].mean() for at in grid])


def _vertex(grid: Floats, means: Floats, centre: float) -> tuple[float | None, float]:
    """(place, loss) of the parabola's vertex, kept within its window; no place where it does not open upwards."""
    near = np.abs(grid - centre) <= OCTAVES + 1e-9
    x, y = grid[near] - centre, means[near]
    if len(x) < LEAST_VALUES:
        return None, float(y.min())
    c, b, a = (float(each) for each in np.polyfit(x, y, 2))
    if c <= 0:
        return None, float(y.min())
    place = float(np.clip(-b / (2 * c), x.min(), x.max()))
    return place + float(centre), a + b * place + c * place**2


def _jackknife(x: Floats, y: Floats, seeds: np.ndarray, centre: float) -> float:
    """Standard error of the vertex, from the vertices without one seed; the best value stands in for a missing one."""
    places: list[float] = []
    for name in np.unique(seeds):
        grid, means = _means(x[seeds != name], y[seeds != name])
        place, _ = _vertex(grid, means, centre)
        near = np.abs(grid - centre) <= OCTAVES + 1e-9
        places.append(float(grid[near][means[near].argmin()]) if place is None else place)
    n = len(places)
    return float(np.sqrt((n - 1) / n * np.sum((np.array(places) - np.mean(places)) ** 2)))
