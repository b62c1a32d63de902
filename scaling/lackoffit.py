"""Whether the residuals bend where the law does not: a test of the law itself.

Squares and products of the log axes are added to the linearised law, and the drop of the sum of squares is put to an F
test. A change of slope, a saturation, or terms that do not simply add leave such a bend. Rows of runs are first freed
of what they share (:mod:`scaling.noise`).
"""

from __future__ import annotations

import numpy as np

from scaling.distributions import fisher_tail
from scaling.noise import Companion, companion, decorrelate
from scaling.points import FloatArray, Points
from scaling.problem import Optimum, Problem

_SPARE = 4  # residuals beyond the parameters and the added columns, below which the test says nothing
_NEW = 1e-6  # an added column counts where that share of its variance is not the law's own


def bend(problem: Problem, points: Points, optimum: Optimum) -> tuple[float, float] | None:
    """Probability of a bend at least as large if the law were right, and the share of the residual variance that it is.

    Tested are all added columns together and the square of every axis alone, which sees a change of slope along that
    axis better; the least probability counts, times the number of tests. None where there are too few points.
    """
    near = companion(problem, optimum)
    if near.freedom < 1:
        return None
    squares = _squares(problem.x)
    columns = [_products(problem.x), *squares] if len(squares) > 1 else [_products(problem.x)]
    tests = [_test(problem, points, near, added) for added in columns]
    found = [each for each in tests if each is not None]
    if not found:
        return None
    probability, share = min(found)
    return min(len(found) * probability, 1.0), share


def _test(problem: Problem, points: Points, near: Companion, curved: FloatArray) -> tuple[float, float] | None:
    """F test of columns (n, m) that are added to the linearised law: probability, and share of the variance."""
    columns = np.column_stack([near.jacobian, near.residual, curved * problem.precision[:, None]])
    columns = decorrelate(problem, points, near, columns)
    k = near.jacobian.shape[1]
    design, rest = np.linalg.qr(columns[:, :k])[0], columns[:, k:]
    rest = rest - design @ (design.T @ rest)
    residual, added = rest[:, 0], rest[:, 1:]
    basis, size, _ = np.linalg.svd(
        added / np.maximum(np.linalg.norm(columns[:, k + 1 :], axis=0), 1e-300), full_matrices=False
    )
    basis = basis[:, size > np.sqrt(_NEW)]
    q = basis.shape[1]
    freedom = near.freedom - q
    if q == 0 or freedom < _SPARE:
        return None
    explained, total = float(np.sum((basis.T @ residual) ** 2)), float(residual @ residual)
    if total <= 1e-20 * points.n:
        return None
    probability = fisher_tail((explained / q) / max((total - explained) / freedom, 1e-300), q, freedom)
    return probability, explained / total


def _squares(x: FloatArray) -> list[FloatArray]:
    """The square of every standardised log axis, each of shape (n, 1)."""
    return [(row**2)[:, None] for row in _scaled(x)]


def _products(x: FloatArray) -> FloatArray:
    """Squares and products of standardised log axes, shape (n, columns)."""
    scaled = _scaled(x)
    pairs = [(i, j) for i in range(len(x)) for j in range(i, len(x))]
    return np.stack([scaled[i] * scaled[j] for i, j in pairs], axis=1)


def _scaled(x: FloatArray) -> FloatArray:
    return (x - x.mean(axis=1, keepdims=True)) / np.maximum(x.std(axis=1, keepdims=True), 1e-300)
