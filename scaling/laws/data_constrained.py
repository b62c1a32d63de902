"""L = E + A N'^-alpha + B D'^-beta: the chinchilla law where data are repeated and so are worth less each time.

With U_D = min(unique, D) distinct samples or tokens and U_N = min(N, the compute-optimal N for U_D),

    D' = U_D (1 + Rd (1 - exp(-R_D / Rd))),  R_D = D / U_D - 1 repetitions,
    N' = U_N (1 + Rn (1 - exp(-R_N / Rn))),  R_N = N / U_N - 1,

so repeated data count for at most Rd further passes, and parameters beyond those that the distinct data call for are
worth less too. Units as for ``chinchilla``; Rd and Rn are ratios. All seven are positive, and Rd, Rn -> infinity is
``chinchilla``. The compute-optimal N for U_D follows from the law itself, alpha A N^-alpha = beta B U_D^-beta, and
moves with its parameters during a fit. At N up to that and without repetition the law equals ``chinchilla``, and so
does its compute-optimal split as long as there are fresh data; larger N are discounted even at the first pass.
Source: Muennighoff et al. 2023 (arXiv 2305.16264), who share one exponent; here alpha and beta may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling import projection
from scaling.errors import FitInputError
from scaling.laws.additive import LOG_COEFFICIENT_BOUNDS
from scaling.laws.base import Frame, Law, Linearised
from scaling.laws.chinchilla import CHINCHILLA
from scaling.points import FloatArray

_EXPONENT_BOUNDS = (0.01, 4.0)
_LOG_R_BOUNDS = (-4.0, 9.0)
_MOST_EXCESS = 60.0  # log of an excess beyond which nothing changes and exp would overflow
_EXPONENTS = np.geomspace(0.03, 1.8, 12)
_LOG_R = np.log([1.0, 4.0, 16.0, 80.0, 800.0])


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """h = -m + log(1 + r (1 - exp(-R / r))), R = e^m - 1, r = e^rho: log of what an excess of e^m is worth of itself.

    Attributes:
        value: h, at most 0 and smooth from m = 0 on, where h and its first derivatives are 0.
        m: dh/dm; rho: dh/drho; mm, mrho, rhorho: second derivatives.
    """

    value: FloatArray
    m: FloatArray
    rho: FloatArray
    mm: FloatArray
    mrho: FloatArray
    rhorho: FloatArray


def saturate(m: FloatArray, rho: FloatArray) -> Saturation:
    """Worth of an excess; m >= 0 and rho broadcast."""
    r, grown, excess = np.exp(rho), np.exp(m), np.expm1(m)
    left = np.exp(-excess / r)
    gained = -r * np.expm1(-excess / r)
    g = 1.0 + gained
    g_m, g_rho = left * grown, gained - left * excess
    g_mm, g_mrho = g_m * (1.0 - grown / r), g_m * excess / r
    g_rhorho = g_rho - left * excess * excess / r
    return Saturation(
        value=np.log(g) - m,
        m=g_m / g - 1.0,
        rho=g_rho / g,
        mm=g_mm / g - (g_m / g) ** 2,
        mrho=g_mrho / g - g_m * g_rho / (g * g),
        rhorho=g_rhorho / g - (g_rho / g) ** 2,
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What value and derivatives share; arrays are (batch, n)."""

    value: FloatArray
    floor_share: FloatArray
    params_share: FloatArray
    data_share: FloatArray
    params_reach: FloatArray
    data_reach: FloatArray
    params_worth: Saturation
    data_worth: Saturation
    beyond: FloatArray
    distinct: FloatArray
    balance: FloatArray


class DataConstrained(Law):
    """theta = (log E, log A, log B, alpha, beta, log Rd, log Rn)."""

    name = "data_constrained"
    formula = "L = E + A N'^-alpha + B D'^-beta, D' = U_D (1 + Rd (1 - exp(-R_D/Rd))), N' likewise with Rn"
    source = "Muennighoff et al. 2023, arXiv 2305.16264"
    parameters = ("E", "A", "B", "alpha", "beta", "Rd", "Rn")
    coefficients = ("A", "B", "Rd", "Rn")
    axes = ("params", "data", "unique")
    floor = "E"
    exponents: Mapping[str, str] = {"params": "alpha", "data": "beta"}

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        low, high = np.array([LOG_COEFFICIENT_BOUNDS] * 3 + [_EXPONENT_BOUNDS] * 2 + [_LOG_R_BOUNDS] * 2).T
        return low, high

    def check(self, x: FloatArray) -> None:
        """Refuse points without repetition, which say nothing about Rd.

        Raises:
            FitInputError: no row saw more data than it had distinct ones.
        """
        if not bool(np.any(x[1] > x[2] + 1e-9)):
            raise FitInputError(
                f"no row has data above unique, so nothing was repeated and '{self.name}' cannot find Rd: fit"
                " chinchilla, which it equals there, or add runs of several epochs"
            )

    def _parts(self, theta: FloatArray, x: FloatArray) -> _Parts:
        floor, a, b, alpha, beta, rho_d, rho_n = theta.T[:, :, None]
        n, d, u = x
        distinct = np.minimum(d, u)
        data_worth = saturate(np.minimum(d - distinct, _MOST_EXCESS), rho_d)
        balance = a + np.log(alpha) - b - np.log(beta) + beta * distinct
        beyond = np.clip(n - balance / alpha, 0.0, _MOST_EXCESS)
        params_worth = saturate(beyond, rho_n)
        params_reach, data_reach = n + params_worth.value, d + data_worth.value
        first, second = a - alpha * params_reach, b - beta * data_reach
        value = np.logaddexp(floor, np.logaddexp(first, second))
        return _Parts(
            value=value,
            floor_share=np.exp(floor - value),
            params_share=np.exp(first - value),
            data_share=np.exp(second - value),
            params_reach=params_reach,
            data_reach=data_reach,
            params_worth=params_worth,
            data_worth=data_worth,
            beyond=beyond,
            distinct=distinct,
            balance=balance,
        )

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return self._parts(theta, x).value

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        at = self._parts(theta, x)
        moved = _excess_gradient(theta, at)
        first, second = _params_gradient(theta, at, moved), _data_gradient(theta, at)
        jacobian = at.params_share[:, None] * first + at.data_share[:, None] * second
        jacobian[:, 0] += at.floor_share

        def curvature(c: FloatArray) -> FloatArray:
            out = -(jacobian * c[:, None]) @ jacobian.transpose(0, 2, 1)
            out += (first * (c * at.params_share)[:, None]) @ first.transpose(0, 2, 1)
            out += (second * (c * at.data_share)[:, None]) @ second.transpose(0, 2, 1)
            out[:, 0, 0] += np.sum(c * at.floor_share, axis=1)
            _add_params_curvature(out, theta, at, moved, c * at.params_share)
            _add_data_curvature(out, theta, at, c * at.data_share)
            return out

        return Linearised(value=at.value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors: first with N' = N over a grid of exponents and Rd, then again with N' of that fit."""
        n, d, u = x
        alpha, beta, rho_d = projection.cells(_EXPONENTS, _EXPONENTS, _LOG_R).T[:, :, None]
        distinct = np.minimum(d, u)
        reach = d + saturate(np.minimum(d - distinct, _MOST_EXCESS), _LOG_R[:, None]).value  # one row per Rd
        data_column = -beta * reach[np.searchsorted(_LOG_R, rho_d[:, 0])]
        columns = np.stack([np.zeros_like(data_column), -alpha * n, data_column], axis=1)
        best, linear = projection.best_cells(columns, y, w, count=max(count, 8))
        logs = np.log(np.maximum(linear, np.exp(LOG_COEFFICIENT_BOUNDS[0] / 2)))
        cells = np.concatenate([alpha, beta, rho_d], axis=1)[best]
        theta = np.concatenate([np.repeat(np.concatenate([logs, cells], axis=1), len(_LOG_R), axis=0)], axis=1)
        theta = np.column_stack([theta, np.tile(_LOG_R, len(best))])
        at = self._parts(theta, x)
        columns = np.stack(
            [np.zeros_like(at.value), -theta[:, 3:4] * at.params_reach, -theta[:, 4:5] * at.data_reach], axis=1
        )
        again, linear = projection.best_cells(columns, y, w, count=count)
        logs = np.log(np.maximum(linear, np.exp(LOG_COEFFICIENT_BOUNDS[0] / 2)))
        return np.concatenate([logs, theta[again, 3:]], axis=1)

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        plain = CHINCHILLA.to_natural(theta[:, :5], _of_chinchilla(frame))
        return np.concatenate([plain, np.exp(theta[:, 5:])], axis=1)

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        plain = CHINCHILLA.to_internal(natural[:, :5], _of_chinchilla(frame))
        return np.concatenate([plain, np.log(natural[:, 5:])], axis=1)

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """Exponents of the compute-optimal size and data while data are fresh: those of ``chinchilla``."""
        return CHINCHILLA.compute_optimal(natural[:, :5])

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss while data are fresh, each (batch, m), for C = flops_per N D."""
        return CHINCHILLA.frontier(natural[:, :5], flops, flops_per)


def _of_chinchilla(frame: Frame) -> Frame:
    return Frame(centre=frame.centre[:2], log_scale=frame.log_scale)


def _excess_gradient(theta: FloatArray, at: _Parts) -> FloatArray:
    """Derivatives of log(N / U_N) by (A, B, alpha, beta), shape (batch, 4, n); 0 where N is not in excess."""
    alpha, beta = theta[:, 3, None], theta[:, 4, None]
    ones = np.ones_like(at.value)
    slopes = [-ones / alpha, ones / alpha, (at.balance - 1.0) / alpha**2, (1.0 / beta - at.distinct) / alpha]
    inside = (at.beyond > 0.0) & (at.beyond < _MOST_EXCESS)
    return np.stack(slopes, axis=1) * inside[:, None]


def _params_gradient(theta: FloatArray, at: _Parts, moved: FloatArray) -> FloatArray:
    """Gradient of log A - alpha log N', shape (batch, p, n)."""
    alpha, worth = theta[:, 3, None], at.params_worth
    out = np.zeros((len(theta), 7, at.value.shape[1]))
    out[:, 1:5] = -(alpha * worth.m)[:, None] * moved
    out[:, 1] += 1.0
    out[:, 3] -= at.params_reach
    out[:, 6] = -alpha * worth.rho
    return out


def _data_gradient(theta: FloatArray, at: _Parts) -> FloatArray:
    """Gradient of log B - beta log D', shape (batch, p, n)."""
    out = np.zeros((len(theta), 7, at.value.shape[1]))
    out[:, 2] = 1.0
    out[:, 4] = -at.data_reach
    out[:, 5] = -theta[:, 4, None] * at.data_worth.rho
    return out


def _add_params_curvature(out: FloatArray, theta: FloatArray, at: _Parts, moved: FloatArray, c: FloatArray) -> None:
    """Add the Hessian of log A - alpha log N', summed over rows with weights c (batch, n)."""
    alpha, beta, worth = theta[:, 3, None], theta[:, 4, None], at.params_worth
    inner = slice(1, 5)
    out[:, inner, inner] -= (moved * (c * alpha * worth.mm)[:, None]) @ moved.transpose(0, 2, 1)
    along = np.einsum("bn,bin->bi", c * worth.m, moved)
    out[:, 3, inner] -= along
    out[:, inner, 3] -= along
    across = np.einsum("bn,bin->bi", c * alpha * worth.mrho, moved)
    out[:, 6, inner] -= across
    out[:, inner, 6] -= across
    turn = np.sum(c * worth.rho, axis=1)
    out[:, 3, 6] -= turn
    out[:, 6, 3] -= turn
    out[:, 6, 6] -= np.sum(c * alpha * worth.rhorho, axis=1)
    # Second derivatives of log(N / U_N) itself.
    weight = c * alpha * worth.m * (moved[:, 1] > 0.0)
    bends = {
        (1, 3): weight / alpha**2,
        (2, 3): -weight / alpha**2,
        (3, 4): weight * (at.distinct - 1.0 / beta) / alpha**2,
    }
    for (i, j), bend in bends.items():
        total = bend.sum(axis=1)
        out[:, i, j] -= total
        out[:, j, i] -= total
    out[:, 3, 3] -= np.sum(weight * (3.0 - 2.0 * at.balance) / alpha**3, axis=1)
    out[:, 4, 4] += np.sum(weight / (alpha * beta**2), axis=1)


def _add_data_curvature(out: FloatArray, theta: FloatArray, at: _Parts, c: FloatArray) -> None:
    """Add the Hessian of log B - beta log D', summed over rows with weights c (batch, n)."""
    turn = np.sum(c * at.data_worth.rho, axis=1)
    out[:, 4, 5] -= turn
    out[:, 5, 4] -= turn
    out[:, 5, 5] -= np.sum(c * theta[:, 4, None] * at.data_worth.rhorho, axis=1)


DATA_CONSTRAINED = DataConstrained()
