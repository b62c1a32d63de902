"""L = E + (A N^-p + B D^-q)^k: the chinchilla law whose two terms need not simply add.

Units: N trainable parameters, D samples or tokens seen, L and E in the units of the loss, A and B in
loss^(1/k) times params^p and data^q. All are positive and k is at most 1: k = 1 is ``chinchilla``, and the
smaller k, the more the scarcer of the two decides alone. With data in plenty L = E + A^k N^(-k p). With q = 1 it is
the law of Kaplan et al. with a floor. k below 0.05 is a plain maximum for any table and is not searched.
Compute-optimal: N* ~ C^(q / (p + q)), whatever k is.
Source: the general form that joins Hoffmann et al. 2022 (arXiv 2203.15556) and Kaplan et al. 2020
(arXiv 2001.08361).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling import allocation
from scaling.laws.additive import EXPONENT_BOUNDS, LOG_COEFFICIENT_BOUNDS
from scaling.laws.base import Frame, Law, Linearised
from scaling.laws.blend import Blend, blend, safe_exp
from scaling.laws.chinchilla import CHINCHILLA
from scaling.points import FloatArray

_COUPLING_BOUNDS = (0.05, 1.0)
_COUPLING_STARTS = np.array([1.0, 0.6, 0.3, 0.15])


class Coupled(Law):
    """theta = (log E, k log A, k log B, k p, k q, k): exponents and coefficients as they act on the loss."""

    name = "coupled"
    formula = "L = E + (A N^-p + B D^-q)^k"
    source = "Hoffmann et al. 2022, arXiv 2203.15556, and Kaplan et al. 2020, arXiv 2001.08361, joined"
    parameters = ("E", "A", "B", "p", "q", "k")
    coefficients = ("A", "B")
    axes = ("params", "data")
    floor = "E"
    exponents: Mapping[str, str] = {"params": "p", "data": "q"}

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        limits = [LOG_COEFFICIENT_BOUNDS] * 3 + [EXPONENT_BOUNDS] * 2 + [_COUPLING_BOUNDS]
        low, high = np.array(limits).T
        return low, high

    def _blend(self, theta: FloatArray, x: FloatArray) -> tuple[Blend, FloatArray, FloatArray]:
        """The coupled part, log loss, and the coupled part's share of the loss."""
        floor, a, b, p, q, k = theta.T[:, :, None]
        part = blend(a - p * x[0], b - q * x[1], k)
        value = np.logaddexp(floor, part.value)
        return part, value, np.exp(part.value - value)

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return self._blend(theta, x)[1]

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        at, value, part = self._blend(theta, x)
        s, ones = at.share, np.ones_like(value)
        inner = np.stack([0.0 * ones, s, 1.0 - s, -s * x[0], (s - 1.0) * x[1], at.entropy], axis=1)
        across = np.stack([0.0 * ones, ones, -ones, -x[0] * ones, x[1] * ones, -at.gap], axis=1)
        jacobian, against_floor = inner * part[:, None, :], inner.copy()
        jacobian[:, 0] = 1.0 - part
        against_floor[:, 0] = -1.0

        def curvature(c: FloatArray) -> FloatArray:
            coupling = (across * (c * part * at.bend)[:, None, :]) @ across.transpose(0, 2, 1)
            mixing = (against_floor * (c * part * (1.0 - part))[:, None, :]) @ against_floor.transpose(0, 2, 1)
            return coupling + mixing

        return Linearised(value=value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors: the best additive laws, at several k, with the same loss at the centre."""
        base = CHINCHILLA.starts(x, y, w, -(-count // len(_COUPLING_STARTS)))
        k = np.tile(_COUPLING_STARTS, len(base))[:count]
        theta = np.repeat(base, len(_COUPLING_STARTS), axis=0)[:count]
        a, b = theta[:, 1], theta[:, 2]
        shift = np.logaddexp(a, b) - blend(a, b, k).value
        theta[:, 1:3] += shift[:, None]
        return np.column_stack([theta, k])

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        k = theta[:, 5:]
        floor = np.exp(theta[:, :1] + frame.log_scale)
        scales = safe_exp((theta[:, 1:3] + theta[:, 3:5] * frame.centre + frame.log_scale) / k)
        return np.concatenate([floor, scales, theta[:, 3:5] / k, k], axis=1)

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        k = np.asarray(natural[:, 5:], dtype=np.float64)
        outer = natural[:, 3:5] * k
        floor = np.log(natural[:, :1]) - frame.log_scale
        logs = k * np.log(natural[:, 1:3]) - outer * frame.centre - frame.log_scale
        return np.concatenate([floor, logs, outer, k], axis=1)

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """a = q / (p + q) for N* ~ C^a and b = 1 - a for D* ~ C^b, each (batch,)."""
        params_exponent = allocation.params_exponent(natural[:, 3], natural[:, 4])
        return {"params_exponent": params_exponent, "data_exponent": 1.0 - params_exponent}

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D."""
        floor, a, b, p, q, k = np.asarray(natural, dtype=np.float64).T[:, :, None]
        params, data, inner = allocation.optimum(
            floor=np.zeros_like(a), a=a, b=b, alpha=p, beta=q, flops=flops, flops_per=flops_per
        )
        return params, data, floor + inner**k


COUPLED = Coupled()
