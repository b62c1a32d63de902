"""Where a swept hyperparameter is best: the vertex of a parabola in its logarithm, with what seeds say about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitInputError

OCTAVES = 2.0
"""The parabola sees values within this many doublings of the best one measured."""
LEAST_VALUES = 3


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best value of a hyperparameter along one curve."""

    value: float
    """Vertex of the parabola through the mean losses, or the best value measured where that is at an end."""
    loss: float
    """At the vertex, or the mean measured there."""
    stderr_octaves: float | None
    """Standard error of log2(value) from the vertices of single seeds; None with one seed or at an end."""
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
    grid = np.unique(x)
    if len(grid) < LEAST_VALUES:
        raise FitInputError(f"an optimum needs at least {LEAST_VALUES} different values, found {len(grid)}")
    means = np.array([y[x == at].mean() for at in grid])
    best = int(means.argmin())
    vertex = _vertex(grid, means, grid[best]) if 0 < best < len(grid) - 1 else None
    names = np.unique(s)
    if vertex is None:
        return Optimum(
            value=float(2 ** grid[best]),
            loss=float(means[best]),
            stderr_octaves=None,
            interior=False,
            seeds=len(names),
        )
    single = [_vertex(x[s == name], y[s == name], grid[best]) for name in names]
    places = [each[0] for each in single if each is not None]
    spread = float(np.std(places, ddof=1) / len(places) ** 0.5) if len(places) > 1 else None
    return Optimum(value=float(2 ** vertex[0]), loss=vertex[1], stderr_octaves=spread, interior=True, seeds=len(names))


def _vertex(x: np.ndarray, y: np.ndarray, centre: float) -> tuple[float, float] | None:
    """(place, loss) of the parabola's vertex, kept within its window; None where it does not open upwards."""
    near = np.abs(x - centre) <= OCTAVES + 1e-9
    x, y = x[near], y[near]
    if len(np.unique(x)) < LEAST_VALUES:
        return None
    c, b, a = np.polyfit(x - centre, y, 2)
    if c <= 0:
        return None
    place = float(np.clip(-b / (2 * c), (x - centre).min(), (x - centre).max()))
    return place + float(centre), float(a + b * place + c * place**2)
