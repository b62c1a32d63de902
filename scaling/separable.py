"""Least squares where most parameters are linear: only the others are searched, for a whole batch at once.

A model ``y = c1 phi1(x; theta) + c2 phi2(x; theta)`` has, for fixed theta, its best c in closed form, so the sum of
squares is a function of theta alone (variable projection, Golub and Pereyra 1973). Theta has none, one or two
elements: every cell of a grid over it is tried, and the best cells are polished by damped Newton steps. The grid is
what makes the optimum the global one; no start has to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from scaling.points import FloatArray

IntArray = npt.NDArray[np.intp]

_POLISHED = 4  # cells of the grid that are polished; of a resample, the best one
_ITERATIONS = 60
_STEP = 1e-4  # of the central differences, in units in which the range of theta is of order 1
_CHUNK = 4_000_000  # numbers in the largest array of the grid search


class Separable(Protocol):
    """A model with two columns, and where to look for what is not linear in it.

    Attributes:
        cells: grid of theta, shape (cells, q); one cell with q = 0 where everything is linear.
        limits: least and greatest theta, shape (2, q).
        box: least and greatest coefficients, shape (2, 2); equal where one is known.
        ordered: the second coefficient may not be below the first.
    """

    @property
    def cells(self) -> FloatArray: ...

    @property
    def limits(self) -> FloatArray: ...

    @property
    def box(self) -> FloatArray: ...

    @property
    def ordered(self) -> bool: ...

    def columns(self, theta: FloatArray) -> FloatArray:
        """phi1 and phi2 at the rows of the fit, shape (b, 2, n), for theta (b, q)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Found:
    """Optima of a batch.

    Attributes:
        theta: shape (b, q).
        coefficients: shape (b, 2).
        squares: weighted sum of squared residuals, shape (b,).
        at_limit: theta stands at a limit of the search, shape (b,), of booleans.
    """

    theta: FloatArray
    coefficients: FloatArray
    squares: FloatArray
    at_limit: npt.NDArray[np.bool_]


def solve(model: Separable, y: FloatArray, w: FloatArray) -> Found:
    """Minimise ``sum_i w_i (y_i - c phi_i(theta))^2`` for every row of a batch.

    Args:
        model: the columns and where to search.
        y: values, shape (n,) or (b, n).
        w: weights, shape (b, n), not negative.

    Returns:
        The optimum of every problem.
    """
    y = np.broadcast_to(y, w.shape)
    size = max(1, _CHUNK // max(len(model.cells), w.shape[1] * _POLISHED))
    parts = [_solve_chunk(model, y[i : i + size], w[i : i + size]) for i in range(0, len(w), size)]
    return Found(
        theta=np.concatenate([part.theta for part in parts]),
        coefficients=np.concatenate([part.coefficients for part in parts]),
        squares=np.concatenate([part.squares for part in parts]),
        at_limit=np.concatenate([part.at_limit for part in parts]),
    )


def _solve_chunk(model: Separable, y: FloatArray, w: FloatArray) -> Found:
    best = _best_cells(model, y, w)
    count = best.shape[1]
    theta = model.cells[best.ravel()]
    y, w = np.repeat(y, count, axis=0), np.repeat(w, count, axis=0)
    theta = _polish(model, theta, y, w)
    coefficients, squares = project(model, theta, y, w)[:2]
    by_problem = squares.reshape(-1, count)
    pick = np.arange(len(by_problem)) * count + by_problem.argmin(axis=1)
    low, high = model.limits
    at_limit = np.any((theta <= low + 1e-9) | (theta >= high - 1e-9), axis=1)
    return Found(theta=theta[pick], coefficients=coefficients[pick], squares=squares[pick], at_limit=at_limit[pick])


def _best_cells(model: Separable, y: FloatArray, w: FloatArray) -> IntArray:
    """Numbers of the best cells of every problem, shape (b, up to _POLISHED)."""
    first, second = model.columns(model.cells).transpose(1, 2, 0)  # row, cell
    wy = w * y
    gram = (w @ (first * first), w @ (first * second), w @ (second * second))
    c = _bounded(model, gram, (wy @ first, wy @ second))
    value = _quadratic(gram, (wy @ first, wy @ second), c)
    count = min(_POLISHED if len(w) == 1 else 1, value.shape[1])
    return np.argpartition(value, count - 1, axis=1)[:, :count]


def project(
    model: Separable, theta: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Best coefficients (b, 2), sum of squares (b,) and residuals times sqrt(w) (b, n) at theta (b, q)."""
    columns = model.columns(theta)
    weighted = columns * w[:, None, :]
    gram = weighted @ columns.transpose(0, 2, 1)
    moment = np.einsum("bkn,bn->bk", weighted, y)
    c = np.stack(_bounded(model, (gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1]), (moment[:, 0], moment[:, 1])), axis=1)
    residual = np.sqrt(w) * (y - np.einsum("bk,bkn->bn", c, columns))
    return c, np.einsum("bn,bn->b", residual, residual), residual


Gram = tuple[FloatArray, FloatArray, FloatArray]
Pair = tuple[FloatArray, FloatArray]


def _quadratic(gram: Gram, moment: Pair, c: Pair) -> FloatArray:
    """``c' G c - 2 m' c``: the sum of squares without its constant."""
    (g11, g12, g22), (m1, m2), (c1, c2) = gram, moment, c
    return c1 * (g11 * c1 + 2 * g12 * c2 - 2 * m1) + c2 * (g22 * c2 - 2 * m2)


def _bounded(model: Separable, gram: Gram, moment: Pair) -> Pair:
    """Least squares for two coefficients within a box, and in order where that is asked: exact, by its edges."""
    (g11, g12, g22), (m1, m2) = gram, moment
    (low1, low2), (high1, high2) = model.box
    tiny = 1e-300
    determinant = g11 * g22 - g12 * g12
    usable = determinant > 1e-13 * g11 * g22
    safe = np.where(usable, determinant, 1.0)
    c1, c2 = (g22 * m1 - g12 * m2) / safe, (g11 * m2 - g12 * m1) / safe
    inside = usable & (c1 >= low1) & (c1 <= high1) & (c2 >= low2) & (c2 <= high2)
    best1, best2 = np.where(inside, c1, 0.0), np.where(inside, c2, 0.0)
    value = np.where(inside, _quadratic(gram, moment, (best1, best2)), np.inf)
    edges: list[Pair] = []
    for edge in (low1, high1):
        if np.isfinite(edge):
            edges.append((np.full_like(m1, edge), np.clip((m2 - g12 * edge) / np.maximum(g22, tiny), low2, high2)))
    for edge in (low2, high2):
        if np.isfinite(edge):
            edges.append((np.clip((m1 - g12 * edge) / np.maximum(g11, tiny), low1, high1), np.full_like(m2, edge)))
    if not edges:  # nothing bounds them: where the columns are collinear, the first alone
        edges = [(m1 / np.maximum(g11, tiny), np.zeros_like(m2))]
    for edge in edges:
        at_edge = _quadratic(gram, moment, edge)
        better = at_edge < value
        best1, best2 = np.where(better, edge[0], best1), np.where(better, edge[1], best2)
        value = np.where(better, at_edge, value)
    if not model.ordered:
        return best1, best2
    # The problem is convex: where the best is out of order, the best in order has both equal.
    level = np.clip((m1 + m2) / np.maximum(g11 + 2 * g12 + g22, tiny), max(low1, low2), min(high1, high2))
    wrong = best2 < best1
    return np.where(wrong, level, best1), np.where(wrong, level, best2)


def _polish(model: Separable, theta: FloatArray, y: FloatArray, w: FloatArray) -> FloatArray:
    """Damped Newton steps from every theta; none is taken that does not lower the sum of squares."""
    if theta.shape[1] == 0:
        return theta
    low, high = model.limits
    squares, damping = project(model, theta, y, w)[1], np.full(len(theta), 1e-2)
    for _ in range(_ITERATIONS):
        gradient, hessian, scale = _expand(model, theta, y, w)
        fixed = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
        gradient = np.where(fixed, 0.0, gradient)
        hessian = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, hessian)
        identity = np.eye(theta.shape[1])
        hessian = hessian + identity * (damping[:, None] * scale + 1e-300 + fixed)[:, None, :]
        newton = cast(FloatArray, np.linalg.solve(hessian, gradient[..., None]))[..., 0]
        trial = np.clip(theta - np.clip(newton, -1.0, 1.0), low, high)
        there = project(model, trial, y, w)[1]
        better = there < squares
        gain = np.where(better, squares - there, 0.0)
        theta, squares = np.where(better[:, None], trial, theta), np.where(better, there, squares)
        damping = np.where(better, damping * 0.1, np.minimum(np.maximum(damping, 1e-6) * 10.0, 1e9))
        if not np.any((gain > 1e-13 * squares) | (~better & (damping < 1e6))):
            break
    return theta


def _expand(
    model: Separable, theta: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Half the gradient (b, q) and Hessian (b, q, q) of the sum of squares, and the size of its curvature (b, q).

    By central differences. Where the Hessian is not positive definite, that of Gauss and Newton stands for it.
    """
    q, batch = theta.shape[1], len(theta)
    _, here, residual = project(model, theta, y, w)
    steps = _STEP * np.eye(q)
    jacobian, hessian = np.empty((batch, q, residual.shape[1])), np.empty((batch, q, q))
    for k in range(q):
        _, up, above = project(model, theta + steps[k], y, w)
        _, down, below = project(model, theta - steps[k], y, w)
        jacobian[:, k] = (above - below) / (2 * _STEP)
        hessian[:, k, k] = (up - 2 * here + down) / (2 * _STEP**2)
        for m in range(k):
            corners = [
                sign * project(model, theta + steps[k] * up_k + steps[m] * up_m, y, w)[1]
                for sign, up_k, up_m in ((1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1))
            ]
            hessian[:, k, m] = hessian[:, m, k] = sum(corners) / (8 * _STEP**2)
    gauss_newton = jacobian @ jacobian.transpose(0, 2, 1)
    scale = np.einsum("bkk->bk", gauss_newton)
    convex = cast(FloatArray, np.linalg.eigvalsh(hessian))[:, 0] > 1e-6 * scale.min(axis=1)
    gradient = np.einsum("bkn,bn->bk", jacobian, residual)
    return gradient, np.where(convex[:, None, None], hessian, gauss_newton), scale
