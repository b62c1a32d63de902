"""L = E + K x^-c0 (1 + (x/d)^(1/f))^(-c1 f): a power law along one axis whose slope changes once.

Units: L and E in the units of the loss, d as x, K in loss times x^c0. Well below d the slope of L - E in logarithms is
-c0, well above it -(c0 + c1), and the change takes about f units of log x: f -> 0 is a sharp corner. E, K, d, f are
positive and d lies inside the data; c1 < 0 lets the fall flatten. c1 = 0 is ``power_floor``.
Source: Caballero et al. 2022 (arXiv 2210.14891), with one break.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling import projection
from scaling.errors import FitInputError
from scaling.laws.additive import LOG_COEFFICIENT_BOUNDS
from scaling.laws.base import Frame, Law, Linearised
from scaling.laws.power_floor import SYMBOL
from scaling.points import ONE_AXIS, FloatArray

MIN_PLACES = 6
"""Distinct values of x below which a break cannot be told from noise."""
_C0_BOUNDS, _C1_BOUNDS = (0.0, 4.0), (-4.0, 4.0)
_LOG_F_BOUNDS = (float(np.log(0.02)), float(np.log(5.0)))
_C0 = np.concatenate([[0.0], np.geomspace(0.02, 1.6, 11)])
_C1 = np.concatenate([-np.geomspace(0.04, 1.2, 6), np.geomspace(0.04, 1.2, 6)])
_LOG_F = np.log([0.05, 0.3, 1.0])
_PLACES = np.linspace(0.05, 0.95, 10)  # of the break, as quantiles of x


@dataclass(frozen=True, kw_only=True)
class Broken(Law):
    """theta = (log E, log K, c0, c1, log d, log f)."""

    name: str
    formula: str
    axes: tuple[str, ...]
    exponents: Mapping[str, str]
    source: str = "Caballero et al. 2022, arXiv 2210.14891"
    parameters: tuple[str, ...] = ("E", "K", "c0", "c1", "d", "f")
    coefficients: tuple[str, ...] = ("K", "d", "f")
    floor: str | None = "E"
    n_starts: int = 32

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,), d being limited by the points alone."""
        limits = [LOG_COEFFICIENT_BOUNDS] * 2 + [_C0_BOUNDS, _C1_BOUNDS, (-np.inf, np.inf), _LOG_F_BOUNDS]
        low, high = np.array(limits).T
        return low, high

    def limits(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Limits of theta for points at x: d between the second least and the second greatest."""
        (low, high), places = self.bounds, _places(x)
        low[4], high[4] = places[min(1, len(places) - 1)], places[max(len(places) - 2, 0)]
        return low, high

    def check(self, x: FloatArray) -> None:
        """Refuse points that cannot show a break.

        Raises:
            FitInputError: too few distinct x.
        """
        count = len(_places(x))
        if count < MIN_PLACES:
            raise FitInputError(
                f"{count} distinct {self.axes[0]} cannot show a break: '{self.name}' needs at least {MIN_PLACES};"
                f" fit power_floor:{self.axes[0]}"
            )

    def _term(self, theta: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """log of the falling part, z = (log x - log d) / f, softplus(z) and sigmoid(z), each (batch, n)."""
        k, c0, c1, d, log_f = theta.T[1:, :, None]
        f = np.exp(log_f)
        z = (x[0] - d) / f
        soft = np.logaddexp(0.0, z)
        return k - c0 * x[0] - c1 * f * soft, z, soft, np.exp(z - soft)

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return np.logaddexp(theta[:, 0, None], self._term(theta, x)[0])

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        term, z, soft, above = self._term(theta, x)
        value = np.logaddexp(theta[:, 0, None], term)
        share, f, c1 = np.exp(term - value), np.exp(theta[:, 5, None]), theta[:, 3, None]
        widened = f * (soft - z * above)  # derivative of f softplus(z) by log f
        ones = np.ones_like(value)
        slopes = [-ones, ones, -x[0] * ones, -f * soft, c1 * above, -c1 * widened]
        against_floor = np.stack(slopes, axis=1)
        jacobian = against_floor * share[:, None]
        jacobian[:, 0] = 1.0 - share

        def curvature(c: FloatArray) -> FloatArray:
            part, turn = c * share, above * (1.0 - above)
            out = (against_floor * (part * (1.0 - share))[:, None]) @ against_floor.transpose(0, 2, 1)
            bends = {(3, 4): above, (3, 5): -widened, (4, 5): -c1 * turn * z}
            for (i, j), bend in bends.items():
                total = np.sum(part * bend, axis=1)
                out[:, i, j] += total
                out[:, j, i] += total
            out[:, 4, 4] -= np.sum(part * c1 * turn / f, axis=1)
            out[:, 5, 5] -= np.sum(part * c1 * (widened + f * z * z * turn), axis=1)
            return out

        return Linearised(value=value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors from a grid over both slopes, the place and the width of the break."""
        # A break is found from its own side only, so every place and width contributes to the starts.
        known = _places(x)
        places = np.interp(_PLACES, np.linspace(0.0, 1.0, len(known)), known)
        breaks = projection.cells(places, _LOG_F)
        slopes = projection.cells(_C0, _C1)
        slopes = slopes[slopes.sum(axis=1) > -0.5]
        each = max(1, -(-count // len(breaks)))
        found = [self._at_break(x, y, w, slopes, d, log_f, each) for d, log_f in breaks]
        theta, error = np.concatenate([t for t, _ in found]), np.concatenate([e for _, e in found])
        order = np.argsort(error, kind="stable")
        nearest = -(-count // 2)
        ranks = np.linspace(nearest, len(order) - 1, count - nearest).round().astype(np.intp)
        return theta[order[np.unique(np.concatenate([np.arange(nearest), ranks]))]]

    def _at_break(
        self, x: FloatArray, y: FloatArray, w: FloatArray, slopes: FloatArray, d: float, log_f: float, count: int
    ) -> tuple[FloatArray, FloatArray]:
        """The best slopes of one break as starting vectors, and their absolute log residuals."""
        zero = np.zeros(len(slopes))
        theta = np.column_stack([zero, zero, slopes, zero + d, zero + log_f])
        term = self._term(theta, x)[0]
        best, linear = projection.best_cells(np.stack([np.zeros_like(term), term], axis=1), y, w, count=count)
        theta = theta[best]
        theta[:, :2] = np.log(np.maximum(linear, np.exp(LOG_COEFFICIENT_BOUNDS[0] / 2)))
        return theta, np.sum(w * np.abs(y - self.log_loss(theta, x)), axis=1)

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        out, centre = theta.copy(), frame.centre[0]
        out[:, 0] = np.exp(theta[:, 0] + frame.log_scale)
        out[:, 1] = np.exp(theta[:, 1] + theta[:, 2] * centre + frame.log_scale)
        out[:, 4:] = np.exp(theta[:, 4:] + np.array([centre, 0.0]))
        return out

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        out, centre = np.array(natural, dtype=np.float64), frame.centre[0]
        out[:, 0] = np.log(natural[:, 0]) - frame.log_scale
        out[:, 1] = np.log(natural[:, 1]) - natural[:, 2] * centre - frame.log_scale
        out[:, 4:] = np.log(natural[:, 4:]) - np.array([centre, 0.0])
        return out


def _places(x: FloatArray) -> FloatArray:
    """Distinct values on the axis, those that differ by rounding counted once."""
    return np.unique(x[0].round(6))


BROKEN = tuple(
    Broken(
        name=f"broken:{axis}",
        formula="L = E + K x^-c0 (1 + (x/d)^(1/f))^(-c1 f)".replace("x", SYMBOL[axis]),
        axes=(axis,),
        exponents={axis: "c0"},
    )
    for axis in ONE_AXIS
)
