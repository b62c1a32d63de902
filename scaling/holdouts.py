"""Rolling hold-outs inside the fitted rows: how far off the law was where it can already be checked.

For several cuts in size (the product of the law's axes; compute, for params and data), runs that end below the
cut are fitted again and the fitted rows beyond it are predicted. Nothing outside the fit is looked at, so a test
on larger runs stays a test. All these fits are rows of one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.bootstrap import MIN_DISTINCT
from scaling.laws.base import Law
from scaling.points import FloatArray, Points, places
from scaling.problem import Optimum, Problem, resolve

BoolArray = npt.NDArray[np.bool_]

_MOST_CUTS = 6
_RESAMPLES = 20  # of the rows below every cut, for the spread that the law expects of itself
_SPARE_ROWS = 3  # rows below a cut beyond the parameters; with fewer a fit meets its rows and knows no noise
_NEAREST, _FARTHEST = np.log(1.3), np.log(30.0)
_BLOCK = np.log(3.0)  # rows within a factor of 3 in size share their luck and count as one piece of evidence
_CENTRAL = 1.2815515655446004  # 80 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, kw_only=True)
class Holdouts:
    """Predictions of fitted rows from smaller ones; one entry a prediction, all of shape (m,).

    Attributes:
        error: log L - log Lhat.
        noise: standard deviation of residuals of the rows below the cut.
        spread: standard deviation of log Lhat over resamples of the rows below the cut.
        improvement: log of the predicted gain over the largest size below the cut, see :func:`improvement`.
        block: number of the factor of 3 in size that the row lies in.
        cut: number of the cut.
    """

    error: FloatArray
    noise: FloatArray
    spread: FloatArray
    improvement: FloatArray
    block: FloatArray
    cut: FloatArray


def sizes(law: Law, x: FloatArray) -> FloatArray:
    """Log of the product of the axes that the law has exponents for, shape (m,), for log axes x (axes, m)."""
    return x[_moving(law)].sum(axis=0)


def improvement(law: Law, theta: FloatArray, x: FloatArray, largest: float) -> FloatArray:
    """How much lower the law expects the loss than at the largest size fitted, in log loss, shape (m,).

    The run is compared with one of the size ``largest`` at the same ratios of the axes; a run that is no larger has
    0, and so has one for which the law expects no gain.

    Args:
        law: the law.
        theta: internal parameters, shape (p,).
        x: log axes in the frame of theta, shape (axes, m).
        largest: log of the largest size fitted, in the same frame.
    """
    moving = _moving(law)
    back = x - np.outer(moving, np.maximum(sizes(law, x) - largest, 0.0) / moving.sum())
    return np.maximum(law.log_loss(theta[None], back)[0] - law.log_loss(theta[None], x)[0], 0.0)


def rolling(problem: Problem, points: Points, optimum: Optimum, *, seed: int) -> Holdouts | None:
    """Predict fitted rows from smaller ones, for up to six cuts.

    Args:
        problem: the posed fit.
        points: the rows it was posed from, in the same order.
        optimum: the fit of all rows, from which the others start.
        seed: seed of the resamples.

    Returns:
        The errors, or None where no cut leaves enough to fit: three more rows than parameters, and three places on
        every axis.
    """
    size = sizes(problem.law, problem.x)
    below = _cuts(problem, size, points.ends(size))
    if not len(below):
        return None
    theta = resolve(problem, optimum.theta, problem.y, np.where(below, problem.w, 0.0)).theta
    w = np.concatenate([_resampled(problem, points, each, seed) for each in below])
    draws = resolve(problem, optimum.theta, problem.y, w, rough=True).theta.reshape(len(below), _RESAMPLES, -1)
    parts = [_one(problem, size, mask, theta[i], draws[i], i) for i, mask in enumerate(below)]
    return Holdouts(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def _moving(law: Law) -> BoolArray:
    return np.array([axis in law.exponents for axis in law.axes])


def _cuts(problem: Problem, size: FloatArray, ends: FloatArray) -> BoolArray:
    """Rows below every cut, shape (cuts, n), evenly spread over the cuts that leave enough and test something."""
    needed = len(problem.law.parameters) + _SPARE_ROWS
    x, counted = problem.x[_moving(problem.law)], problem.w > 0
    found: list[BoolArray] = []
    place = [places(np.exp(row)) for row in x]
    end = places(np.exp(ends))  # one cut for a budget, although products of N and D differ in their last digits
    for cut in range(1, int(end.max()) + 1):
        below = (end < cut) & counted
        if below.sum() < needed or not (_tested(size, below) & counted & ~below).any():
            continue
        if all(len(np.unique(row[below])) >= MIN_DISTINCT for row in place):
            found.append(below)
    if len(found) > _MOST_CUTS:
        found = [found[i] for i in np.linspace(0, len(found) - 1, _MOST_CUTS).round().astype(int)]
    return np.array(found, dtype=np.bool_).reshape(len(found), len(size))


def _tested(size: FloatArray, below: BoolArray) -> BoolArray:
    reach = size - size[below].max()
    return (reach > _NEAREST) & (reach <= _FARTHEST)


def _resampled(problem: Problem, points: Points, below: BoolArray, seed: int) -> FloatArray:
    """Weights of resamples of the clusters below a cut, shape (resamples, n)."""
    names, codes = np.unique(points.cluster_codes[below], return_inverse=True)
    rng = np.random.default_rng([seed, len(names)])
    counts = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=_RESAMPLES)
    w = np.zeros((_RESAMPLES, len(below)))
    w[:, below] = counts[:, codes] * problem.w[below]
    return w


def _one(
    problem: Problem, size: FloatArray, below: BoolArray, theta: FloatArray, draws: FloatArray, number: int
) -> Holdouts:
    law, x = problem.law, problem.x
    residual = problem.y - law.log_loss(theta[None], x)[0]
    n, p = int(below.sum()), len(theta)
    noise = float(np.quantile(np.abs(residual[below]), 0.8)) / _CENTRAL * np.sqrt(n / (n - p))
    test = _tested(size, below) & (problem.w > 0) & ~below
    low, high = np.quantile(law.log_loss(draws, x[:, test]), [0.1, 0.9], axis=0)
    return Holdouts(
        error=residual[test],
        noise=np.full(int(test.sum()), noise),
        spread=(high - low) / (2.0 * _CENTRAL),
        improvement=improvement(law, theta, x[:, test], float(size[below].max())),
        block=np.floor((size.max() - size[test]) / _BLOCK + 1e-9),
        cut=np.full(int(test.sum()), float(number)),
    )
