"""Tables of very many rows: the optimum by way of a part of them, and resamples of scores in place of minimisations.

A resample of whole runs changes how often the score (the gradient at the optimum) of a run counts. Scores are sums
over rows, so one pass over the table serves all resamples: ``theta_b = theta - H^-1 sum_c k_bc g_c``, k_bc being how
often run c was drawn, is the parameter vector of a resample to first order (Kline and Santos 2012, Journal of
Econometric Methods 1, 23-41). A robust loss has its curvature in the few rows near the curve; as for any median
regression the Hessian therefore takes the slope of the loss over a wider zone, here one that holds a quarter of the
residuals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.points import FloatArray

if TYPE_CHECKING:
    from scaling.problem import Problem

MANY_ROWS = 20_000
"""Rows above which the ways of this module are taken."""
PART = 5_000
"""Rows of the part that is searched for the optimum."""

_MAX_BLOCKS = 2_000
_MIN_CLUSTERS = 10
_MAX_ELEMENTS = 1e8  # rows x resamples that are minimised; 0.8 GB of weights
_ZONE = 0.25  # share of residuals in the zone over which the curvature of the loss is taken

IntArray = npt.NDArray[np.intp]


def part_rows(n: int) -> IntArray:
    """Numbers of about ``PART`` of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, PART).round().astype(np.intp))


def part(problem: Problem) -> Problem:
    """The :func:`part_rows` of a problem, whose rows are in order of their values."""
    rows = part_rows(len(problem.y))
    return replace(
        problem, x=problem.x[:, rows], y=problem.y[rows], w=problem.w[rows], precision=problem.precision[rows]
    )


def check_size(rows: int, resamples: int) -> None:
    """Refuse resamples of whole rows that do not fit into memory.

    Raises:
        FitInputError: too many rows.
    """
    if rows * resamples > _MAX_ELEMENTS:
        raise FitInputError(
            f"{rows} rows of few runs or sizes: every one of {resamples} resamples has to be minimised over all rows,"
            f" of which there may be {_MAX_ELEMENTS / resamples:.0f}; keep fewer rows of every run, or take bootstrap 0"
        )


def blocks_of(codes: IntArray, n_clusters: int, rng: np.random.Generator) -> tuple[IntArray, int] | None:
    """Block of every row, shape (n,), and how many blocks there are; None where runs are too few for first order.

    Every run is a block; of very many runs, as many go into one at random as leave ``_MAX_BLOCKS``. Sums over equal
    random blocks of independent runs vary under resampling as those over the runs themselves do.
    """
    if n_clusters < _MIN_CLUSTERS:
        return None
    if n_clusters <= _MAX_BLOCKS:
        return codes, n_clusters
    return (rng.permutation(n_clusters) % _MAX_BLOCKS).astype(np.intp)[codes], _MAX_BLOCKS


def resampled(problem: Problem, theta: FloatArray, block: IntArray, counts: FloatArray) -> FloatArray:
    """Parameters of every resample, shape (b, p); see the module.

    Args:
        problem: the problem of all rows.
        theta: its optimum, shape (p,).
        block: block of every row, shape (n,).
        counts: how often every block counts, shape (b, blocks).

    Raises:
        FitInputError: the Hessian is singular: the rows do not determine the law.
    """
    low, high = problem.law.limits(problem.x)
    free = (theta > low) & (theta < high)  # a parameter at its limit stays there
    scores, hessian = _derivatives(problem, theta, block, counts.shape[1])
    scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    scaled = (hessian / np.outer(scale, scale))[np.ix_(free, free)]
    draws = np.repeat(theta[None], len(counts), axis=0)
    try:
        steps = np.linalg.solve(scaled, ((counts @ scores) / scale)[:, free].T).T / scale[free]
    except np.linalg.LinAlgError as error:
        raise FitInputError("the points do not determine the law: its Hessian is singular") from error
    draws[:, free] -= steps
    return np.clip(draws, low, high)


def _derivatives(problem: Problem, theta: FloatArray, block: IntArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Score of every block, shape (blocks, p), and the Hessian of all rows, shape (p, p)."""
    local = problem.law.linearise(theta[None], problem.x)
    slope = problem.loss.slope
    residual, jacobian = problem.y - local.value[0], local.jacobian[0]
    influence = problem.w * slope(residual)
    sums = [np.bincount(block, weights=influence * row, minlength=count) for row in jacobian]
    scores = -np.stack(sums, axis=1).astype(np.float64)
    zone = max(float(np.quantile(np.abs(residual), _ZONE)), 1e-12)
    curvature = (slope(residual + zone) - slope(residual - zone)) / (2.0 * zone)
    hessian: FloatArray = (jacobian * (problem.w * curvature)) @ jacobian.T - local.curvature(influence[None])[0]
    return scores, hessian
