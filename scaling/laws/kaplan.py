"""L = [(Nc / N)^(aN / aD) + Dc / D]^aD: one term in two quantities, without a floor.

Units: N trainable parameters, D samples or tokens seen, Nc and Dc as N and D, L in the units of the loss. All four
are positive. With data in plenty L = (Nc / N)^aN, with parameters in plenty L = (Dc / D)^aD, and aD also sets
how sharply one turns into the other. Compute-optimal: N* ~ C^(aD / (aN + aD)).
Source: Kaplan et al. 2020 (arXiv 2001.08361).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling import allocation, projection
from scaling.laws.additive import LOG_COEFFICIENT_BOUNDS
from scaling.laws.base import Frame, Law, Linearised
from scaling.laws.blend import Blend, blend, safe_exp
from scaling.points import FloatArray

_EXPONENT_BOUNDS = (0.01, 4.0)
_RATIOS = np.geomspace(0.1, 10.0, 21)  # of aN to aD
_DATA_EXPONENTS = np.geomspace(0.02, 1.5, 16)


class Kaplan(Law):
    """theta = (aN log Nc, aD log Dc, aN, aD): each term of the smooth maximum in its own logarithm."""

    name = "kaplan"
    formula = "L = [(Nc/N)^(aN/aD) + Dc/D]^aD"
    source = "Kaplan et al. 2020, arXiv 2001.08361"
    parameters = ("Nc", "Dc", "aN", "aD")
    coefficients = ("Nc", "Dc")
    axes = ("params", "data")
    floor = None
    exponents: Mapping[str, str] = {"params": "aN", "data": "aD"}

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        low, high = np.array([LOG_COEFFICIENT_BOUNDS] * 2 + [_EXPONENT_BOUNDS] * 2).T
        return low, high

    def _blend(self, theta: FloatArray, x: FloatArray) -> Blend:
        c, d, a_n, a_d = theta.T[:, :, None]
        return blend(c - a_n * x[0], d - a_d * x[1], a_d)

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return self._blend(theta, x).value

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        at = self._blend(theta, x)
        s = at.share
        jacobian = np.stack([s, 1.0 - s, -s * x[0], (s - 1.0) * x[1] + at.entropy], axis=1)
        ones = np.ones_like(s)
        across = np.stack([ones, -ones, -x[0] * ones, x[1] - at.gap], axis=1)

        def curvature(c: FloatArray) -> FloatArray:
            return (across * (c * at.bend)[:, None, :]) @ across.transpose(0, 2, 1)

        return Linearised(value=at.value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors: L^(1 / aD) is linear in Nc^(aN / aD) and Dc; see :mod:`scaling.projection`."""
        ratio, a_d = projection.cells(_RATIOS, _DATA_EXPONENTS).T
        columns = np.stack([-ratio[:, None] * x[0], np.broadcast_to(-x[1], (len(ratio), x.shape[1]))], axis=1)
        best, coefficients = projection.best_cells(columns, y, w, count=count, power=a_d)
        ratio, a_d = ratio[best], a_d[best]
        logs = a_d[:, None] * np.log(np.maximum(coefficients, 1e-300))
        floor = 0.5 * LOG_COEFFICIENT_BOUNDS[0]
        return np.column_stack([np.maximum(logs, floor), ratio * a_d, a_d])

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        exponents = theta[:, 2:]
        scales = safe_exp(frame.centre + (theta[:, :2] + frame.log_scale) / exponents)
        return np.concatenate([scales, exponents], axis=1)

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        exponents = np.asarray(natural[:, 2:], dtype=np.float64)
        logs = exponents * (np.log(natural[:, :2]) - frame.centre) - frame.log_scale
        return np.concatenate([logs, exponents], axis=1)

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """a = aD / (aN + aD) for N* ~ C^a and b = 1 - a for D* ~ C^b, each (batch,)."""
        params_exponent = allocation.params_exponent(natural[:, 2], natural[:, 3])
        return {"params_exponent": params_exponent, "data_exponent": 1.0 - params_exponent}

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D."""
        n_c, d_c, a_n, a_d = np.asarray(natural, dtype=np.float64).T[:, :, None]
        p, zero = a_n / a_d, np.zeros_like(a_n)
        term = safe_exp(p * np.log(n_c))
        params, data, inner = allocation.optimum(
            floor=zero, a=term, b=d_c, alpha=p, beta=np.ones_like(p), flops=flops, flops_per=flops_per
        )
        return params, data, inner**a_d


KAPLAN = Kaplan()
