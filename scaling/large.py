"""Tables of very many rows: the optimum by way of a part of them, and resamples by one Newton step each.

A resample of whole runs changes how often a run counts, so what it needs of a run at the optimum is the run's gradient
and Hessian, which are sums over its rows: one pass over the table serves all resamples. One Newton step from the
optimum of all rows then gives a draw that differs from the fully minimised one by less than its own error, the more
so the more runs there are (Davidson and MacKinnon 1999; Andrews 2002, Econometrica 70, 119-162).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.objective import expand
from scaling.points import FloatArray

if TYPE_CHECKING:
    from scaling.problem import Problem

MANY_ROWS = 50_000
"""Rows above which the ways of this module are taken."""
PART = 5_000
"""Rows of the part that is searched for the optimum."""

_MAX_BLOCKS = 2_000
_MIN_BLOCKS = 10

IntArray = npt.NDArray[np.intp]


def part(problem: Problem) -> Problem:
    """About ``PART`` rows of a problem, evenly spread over its rows, which are in order of their values."""
    rows = np.linspace(0, len(problem.y) - 1, PART).round().astype(np.intp)
    return replace(problem, x=problem.x[:, rows], y=problem.y[rows], w=problem.w[rows])


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Derivatives of the objective at its optimum, by block of runs.

    Attributes:
        gradient: shape (blocks, p).
        hessian: shape (blocks, p, p).
    """

    gradient: FloatArray
    hessian: FloatArray


def blocks_of(codes: IntArray, n_clusters: int, rng: np.random.Generator) -> tuple[IntArray, int]:
    """Block of every row, shape (n,), and how many blocks there are.

    Every run is a block; of very many runs, as many go into one at random as leave ``_MAX_BLOCKS``. Sums over equal
    random blocks of independent runs vary under resampling as the runs themselves do.

    Raises:
        FitInputError: too few runs to resample by one step.
    """
    if n_clusters < _MIN_BLOCKS:
        raise FitInputError(
            f"{len(codes)} rows of {n_clusters} independent runs: with so few runs every resample is minimised over all"
            f" rows, which takes at most {MANY_ROWS} of them; keep fewer rows of every run, or take bootstrap 0"
        )
    if n_clusters <= _MAX_BLOCKS:
        return codes, n_clusters
    return (rng.permutation(n_clusters) % _MAX_BLOCKS).astype(np.intp)[codes], _MAX_BLOCKS


def sums(problem: Problem, theta: FloatArray, block: IntArray, count: int) -> Sums:
    """Gradient and Hessian of the objective of every block at theta, shape (p,)."""
    order = np.argsort(block, kind="stable")
    ends = np.searchsorted(block[order], np.arange(1, count))
    gradients, hessians = list[FloatArray](), list[FloatArray]()
    for rows in np.split(order, ends):
        local = expand(problem.law, theta[None], problem.x[:, rows], problem.y[rows], problem.w[rows], problem.delta)
        gradients.append(local.gradient[0])
        hessians.append(local.newton[0])
    return Sums(gradient=np.array(gradients), hessian=np.array(hessians))


def one_step(problem: Problem, theta: FloatArray, derivatives: Sums, counts: FloatArray) -> FloatArray:
    """Parameters of every resample, shape (b, p).

    Args:
        problem: the problem of all rows.
        theta: its optimum, shape (p,).
        derivatives: by block, at the optimum.
        counts: how often every block counts, shape (b, blocks).

    Raises:
        FitInputError: the Hessian is singular: the rows do not determine the law.
    """
    low, high = problem.law.bounds
    held = (theta <= low) | (theta >= high)  # a parameter at its limit stays there
    p = len(theta)
    gradient = counts @ derivatives.gradient
    hessian = (counts @ derivatives.hessian.reshape(len(derivatives.hessian), -1)).reshape(-1, p, p)
    scale = np.sqrt(np.maximum(np.abs(np.einsum("bpp->bp", hessian)), 1e-300))
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    scaled = np.where(held[:, None] | held[None, :], np.eye(p), scaled)
    try:
        step = np.linalg.solve(scaled, np.where(held, 0.0, gradient / scale)[..., None])[..., 0] / scale
    except np.linalg.LinAlgError as error:
        raise FitInputError("the points do not determine the law: its Hessian is singular") from error
    return np.clip(theta - step, low, high)
