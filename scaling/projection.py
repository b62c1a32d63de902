"""Starting points by variable projection: only exponents are searched, coefficients follow linearly.

For fixed exponents a sum of power terms is linear in its coefficients, so a non-negative least-squares
problem gives them exactly (Golub and Pereyra 1973). Rows are divided by the loss, which makes the squared
error a first-order stand-in for the squared error of log loss.
"""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import numpy.typing as npt

from scaling.points import FloatArray

# 0.01 to 2.5 holds every exponent that has been published for a loss, with room on both sides.
GRID = np.geomspace(0.01, 2.5, 18)


def nonnegative_least_squares(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """Minimise ``c' G c / 2 - m' c`` over c >= 0 for a batch of small problems.

    Every subset of columns is solved and the best feasible one is kept: exact, and for the two to four
    columns of a law quicker than an active-set loop per problem.

    Args:
        gram: G, shape (batch, k, k), positive semi-definite.
        moment: m, shape (batch, k).

    Returns:
        c, shape (batch, k).
    """
    batch, k = moment.shape
    best, best_value = np.zeros((batch, k)), np.zeros(batch)
    scale = np.sqrt(np.maximum(np.einsum("bii->bi", gram), 1e-300))
    unit = gram / (scale[:, :, None] * scale[:, None, :]) + 1e-12 * np.eye(k)
    target = moment / scale
    for size in range(1, k + 1):
        for subset in itertools.combinations(range(k), size):
            pick = np.array(subset)
            block: FloatArray = unit[:, pick[:, None], pick]
            solved = cast(FloatArray, np.linalg.solve(block, target[:, pick, None]))[..., 0]
            value = -0.5 * np.sum(solved * target[:, pick], axis=1)
            better = np.all(solved >= 0, axis=1) & (value < best_value)
            candidate = np.zeros((batch, k))
            candidate[:, pick] = solved
            best[better] = candidate[better]
            best_value[better] = value[better]
    return best / scale


def cells(*grids: FloatArray) -> FloatArray:
    """Every combination of the values of the grids, shape (cells, grids)."""
    return np.stack([g.ravel() for g in np.meshgrid(*grids, indexing="ij")], axis=1)


def best_cells(
    columns: FloatArray, y: FloatArray, w: FloatArray, *, count: int, power: FloatArray | None = None
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """The cells of a grid that fit best in absolute log residual, and some that are elsewhere.

    Neighbours of the best cell lead to one and the same optimum, and would agree on it even where it is not the
    true one. So half of the cells are the best ones, and half are spread over the better quarter of the grid.

    Args:
        columns: log of every term but for its coefficient, shape (cells, terms, n).
        y: log of the scaled loss, shape (n,).
        w: row weights, shape (n,).
        count: number of cells wanted; a smaller grid gives all of its own.
        power: k of every cell, shape (cells,), where the law is a sum of terms to the power k; None is 1.

    Returns:
        Numbers of the cells (count,) and their coefficients (count, terms), better ones first.
    """
    outer = np.ones(len(columns)) if power is None else power
    design = np.exp(columns - (y / outer[:, None])[:, None, :])  # cell, term, row; divided by the loss
    weighted = design * w
    coefficients = nonnegative_least_squares(weighted @ design.transpose(0, 2, 1), weighted.sum(axis=2))
    fitted = np.einsum("ckn,ck->cn", design, coefficients)
    error = outer * np.sum(w * np.abs(np.log(np.maximum(fitted, 1e-300))), axis=1)
    order, nearest = np.argsort(error, kind="stable"), -(-count // 2)
    elsewhere = np.linspace(nearest, max(count - 1, len(order) // 4), count - nearest).round().astype(np.intp)
    ranks = np.concatenate([np.arange(nearest), elsewhere]).clip(max=len(order) - 1)
    chosen = order[np.unique(ranks)]
    return chosen, coefficients[chosen]
