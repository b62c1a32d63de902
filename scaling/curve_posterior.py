"""How well every shape explains a training curve: E and K in closed form, g and s0 on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from scaling.curve_records import Curve
from scaling.points import FloatArray
from scaling.projection import cells

IntArray = npt.NDArray[np.intp]

_LEAST_POWER, _MOST_POWER = 0.03, 3.0
_GRID = (44, 24)  # values of g and of s0
_REFINEMENTS = 5
_ENOUGH = 0.1  # share of pairs that matter from which the grid is fine enough
_NEGLIGIBLE = 14.0  # pairs so much less likely (in log) than the best do not matter
_MOST_CORRELATED = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """A curve against every cell (g, s0): means and covariances of (E, K), with K in units of the first step.

    Attributes:
        centre: (E, K) of least squares, shape (cells, 2).
        root: Cholesky factor of the inverse of the normal matrix, shape (cells, 2, 2).
        squares: whitened sum of squares, shape (cells,).
        log_marginal: log of the likelihood with E, K and the noise integrated out, shape (cells,).
        freedom: n - 2.
        correlation: of neighbouring residuals.
    """

    centre: FloatArray
    root: FloatArray
    squares: FloatArray
    log_marginal: FloatArray
    freedom: int
    correlation: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """E, K in units of the first step, and the relative deviation of a loss; each of shape (draws,)."""

    floor: FloatArray
    drop: FloatArray
    noise: FloatArray


def posterior(curve: Curve, alike: Sequence[Curve]) -> tuple[FloatArray, Weighed, FloatArray]:
    """Pairs (g, s0), the curve against each, and their posterior weights up to a factor, shape (cells,).

    The grid spans g from 0.03 to 3 and s0 from 0 to the longest run. Where a long or quiet curve leaves few of its
    pairs, it is laid again over what they span.
    """
    first, last = float(curve.step[0]), max(float(each.step[-1]) for each in (curve, *alike))
    low, high = (math.log(_LEAST_POWER), 0.0), (math.log(_MOST_POWER), math.log1p(last / first))
    refinement = 0
    while True:
        place = cells(*(np.linspace(low[axis], high[axis], count) for axis, count in enumerate(_GRID)))
        pairs = np.column_stack([np.exp(place[:, 0]), first * np.expm1(place[:, 1])])
        own = _weigh(curve, pairs)
        score = own.log_marginal + sum(_weigh(other, pairs).log_marginal for other in alike)
        score = score - score.max()
        matters, refinement = score > -_NEGLIGIBLE, refinement + 1
        if refinement == _REFINEMENTS or np.mean(matters) > _ENOUGH:
            return pairs, own, np.exp(score)
        left = place[matters]
        pitch = [(high[axis] - low[axis]) / (count - 1) for axis, count in enumerate(_GRID)]
        low, high = (
            (max(low[0], float(left[:, 0].min()) - pitch[0]), max(low[1], float(left[:, 1].min()) - pitch[1])),
            (min(high[0], float(left[:, 0].max()) + pitch[0]), min(high[1], float(left[:, 1].max()) + pitch[1])),
        )


def _weigh(curve: Curve, pairs: FloatArray) -> Weighed:
    """Against every cell, with errors proportional to the loss and correlated as a first fit shows them to be."""
    fitted = _fitted(curve, pairs, _least_squares(curve, pairs, curve.loss, 0.0))
    fitted = _fitted(curve, pairs, _least_squares(curve, pairs, fitted, 0.0))
    return _least_squares(curve, pairs, fitted, _correlation(curve.loss / fitted - 1.0))


def _fitted(curve: Curve, pairs: FloatArray, weighed: Weighed) -> FloatArray:
    """Losses at the best cell, shape (n,)."""
    best = int(weighed.log_marginal.argmax())
    g, s0 = pairs[best]
    floor, drop = weighed.centre[best]
    return floor + drop * ((curve.step + s0) / (curve.step[0] + s0)) ** -g


def _correlation(residual: FloatArray) -> float:
    """Lag-one correlation, corrected for the few residuals it comes from (Kendall 1954), between 0 and 0.9."""
    n, total = len(residual), float(residual @ residual)
    if total <= 1e-300 or n < 4:
        return 0.0
    raw = float(residual[1:] @ residual[:-1]) / total
    return float(np.clip(raw + (1 + 3 * raw) / n, 0.0, _MOST_CORRELATED))


def _least_squares(curve: Curve, pairs: FloatArray, scale: FloatArray, correlation: float) -> Weighed:
    g, s0 = pairs.T[:, :, None]
    shape = ((curve.step + s0) / (curve.step[0] + s0)) ** -g
    columns = _whiten(np.stack([np.ones_like(shape), shape], axis=1) / scale, correlation)
    y = _whiten(curve.loss / scale, correlation)
    gram = columns @ columns.transpose(0, 2, 1)
    ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    inverse = cast(FloatArray, np.linalg.inv(gram + ridge))
    centre = np.einsum("cij,cj->ci", inverse, columns @ y)
    # Where least squares asks for a floor or a drop below 0, the best that is allowed stands for the cell.
    centre = np.where(centre[:, :1] < 0, np.stack([0 * g[:, 0], columns[:, 1] @ y / gram[:, 1, 1]], axis=1), centre)
    centre = np.where(centre[:, 1:] < 0, np.stack([columns[:, 0] @ y / gram[:, 0, 0], 0 * g[:, 0]], axis=1), centre)
    residual = y - np.einsum("ci,cin->cn", centre, columns)
    squares = np.maximum(np.einsum("cn,cn->c", residual, residual), 1e-24 * float(y @ y))
    freedom = len(y) - 2
    determinant = cast(FloatArray, np.linalg.slogdet(gram + ridge)[1])
    return Weighed(
        centre=centre,
        root=cast(FloatArray, np.linalg.cholesky(inverse)),
        squares=squares,
        log_marginal=-0.5 * determinant - 0.5 * freedom * np.log(squares),
        freedom=freedom,
        correlation=correlation,
    )


def _whiten(values: FloatArray, correlation: float) -> FloatArray:
    """Prais and Winsten: rows that are independent where those of ``values`` (last axis) are AR(1)."""
    head = np.sqrt(1 - correlation**2) * values[..., :1]
    return np.concatenate([head, values[..., 1:] - correlation * values[..., :-1]], axis=-1)


def sample(own: Weighed, picked: IntArray, rng: np.random.Generator) -> Sample:
    """E, K and the standard deviation of a loss, each (draws,), with E and K not negative."""
    scale = np.sqrt(own.squares[picked] / rng.chisquare(own.freedom, size=len(picked)))
    both = np.empty((len(picked), 2))
    waiting = np.arange(len(picked))
    for _ in range(20):
        at = picked[waiting]
        normal = rng.standard_normal((len(waiting), 2))
        both[waiting] = own.centre[at] + scale[waiting, None] * np.einsum("bij,bj->bi", own.root[at], normal)
        waiting = waiting[(both[waiting] < 0).any(axis=1)]
        if not len(waiting):
            break
    both = np.maximum(both, 0.0)
    return Sample(floor=both[:, 0], drop=both[:, 1], noise=scale / np.sqrt(1 - own.correlation**2))
