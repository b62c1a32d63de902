"""Laws that are a sum of power terms: L = sum_k c_k x_k^-e_k, one term without x being the floor.

In logarithms such a law is a log-sum-exp, ``log L = log sum_k exp(log c_k - e_k log x_k)``, whose
derivatives are cheap: with the softmax weights s_k and the gradient g_k of the k-th exponent,
``grad = sum_k s_k g_k`` and ``Hessian = sum_k s_k g_k g_k' - grad grad'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling import projection
from scaling.laws.base import Frame, Law, Linearised
from scaling.points import FloatArray

# In the units of a Frame a prediction at the centre is about 1, so these hold every sensible term.
LOG_COEFFICIENT_BOUNDS = (-18.0, 6.0)
EXPONENT_BOUNDS = (1e-3, 4.0)


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the sum: ``coefficient * axis^-exponent``, or a constant where axis is None."""

    coefficient: str
    exponent: str | None = None
    axis: str | None = None


@dataclass(frozen=True, kw_only=True)
class AdditivePowerLaw(Law):
    """A sum of power terms; theta = (log coefficients of all terms, exponents of those that have one)."""

    name: str
    formula: str
    source: str
    terms: tuple[Term, ...]
    parameters: tuple[str, ...] = field(init=False)
    coefficients: tuple[str, ...] = field(init=False)
    axes: tuple[str, ...] = field(init=False)
    floor: str | None = field(init=False)
    exponents: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        powers = {t.axis: t.exponent for t in self.terms if t.axis is not None and t.exponent is not None}
        coefficients = tuple(t.coefficient for t in self.terms)
        floors = [t.coefficient for t in self.terms if t.axis is None]
        object.__setattr__(self, "parameters", coefficients + tuple(powers.values()))
        object.__setattr__(self, "coefficients", tuple(c for c in coefficients if c not in floors))
        object.__setattr__(self, "axes", tuple(powers))
        object.__setattr__(self, "floor", floors[0] if floors else None)
        object.__setattr__(self, "exponents", powers)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        limits = [LOG_COEFFICIENT_BOUNDS] * len(self.terms) + [EXPONENT_BOUNDS] * len(self.axes)
        low, high = np.array(limits).T
        return low, high

    def _slots(self) -> list[tuple[int, int | None, int]]:
        """(position of the log coefficient, position of the exponent, row of x) of every term."""
        k = len(self.terms)
        return [
            (i, None, 0) if t.axis is None else (i, k + self.axes.index(t.axis), self.axes.index(t.axis))
            for i, t in enumerate(self.terms)
        ]

    def _softmax(self, theta: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """log-sum-exp, shape (batch, n), and the share of every term, shape (terms, batch, n)."""
        z = np.empty((len(self.terms), len(theta), x.shape[1]))
        for i, e, a in self._slots():
            z[i] = theta[:, i, None]
            if e is not None:
                z[i] -= theta[:, e, None] * x[a]
        top = z.max(axis=0)
        z -= top
        np.exp(z, out=z)
        total = z.sum(axis=0)
        z /= total
        return top + np.log(total), z

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return self._softmax(theta, x)[0]

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        value, share = self._softmax(theta, x)
        batch, p = theta.shape
        jacobian = np.empty((batch, p, x.shape[1]))
        for i, e, a in self._slots():
            jacobian[:, i] = share[i]
            if e is not None:
                np.multiply(share[i], -x[a], out=jacobian[:, e])

        def curvature(c: FloatArray) -> FloatArray:
            out = -(jacobian * c[:, None, :]) @ jacobian.transpose(0, 2, 1)
            for i, e, a in self._slots():
                weighted = c * share[i]
                out[:, i, i] += weighted.sum(axis=1)
                if e is not None:
                    first = weighted @ x[a]
                    out[:, i, e] -= first
                    out[:, e, i] -= first
                    out[:, e, e] += weighted @ (x[a] * x[a])
            return out

        return Linearised(value=value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors from a grid over the exponents; see :mod:`scaling.projection`."""
        has_floor = self.floor is not None
        order = [a for _, e, a in self._slots() if e is not None]
        grid, coefficients = projection.best_cells(x[order], y, w, floor=has_floor, count=count)
        # best_cells puts the floor's column first and the powers in the order of the terms.
        columns = iter(range(1 if has_floor else 0, coefficients.shape[1]))
        ordered = [0 if e is None else next(columns) for _, e, _ in self._slots()]
        low = np.exp(LOG_COEFFICIENT_BOUNDS[0] / 2)
        logs = np.log(np.maximum(coefficients[:, ordered], low))
        return np.concatenate([logs, grid[:, np.argsort(order)]], axis=1)

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        out = theta.copy()
        for i, e, a in self._slots():
            shift = 0.0 if e is None else theta[:, e] * frame.centre[a]
            out[:, i] = np.exp(theta[:, i] + shift + frame.log_scale)
        return out

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        out = np.array(natural, dtype=np.float64)
        for i, e, a in self._slots():
            shift = 0.0 if e is None else natural[:, e] * frame.centre[a]
            out[:, i] = np.log(natural[:, i]) - shift - frame.log_scale
        return out
