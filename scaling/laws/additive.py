"""Laws that are a sum of power terms: L = sum_k c_k x_k^-e_k, one term without x being the floor.

x_k is an axis or a product of powers of axes, and terms may share an exponent. In logarithms such a law
is a log-sum-exp, ``log L = log sum_k exp(log c_k - e_k log x_k)``, whose derivatives are cheap: with the
softmax weights s_k and the gradient g_k of the k-th exponent, ``grad = sum_k s_k g_k`` and
``Hessian = sum_k s_k g_k g_k' - grad grad'``.
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
    """One term of the sum: ``coefficient * x^-exponent``, or a constant where exponent is None.

    Attributes:
        coefficient: name of the coefficient.
        exponent: name of the exponent; terms that give the same name share it.
        powers: x as a product of powers of axes, {"params": 1} being N itself; empty for a constant.
    """

    coefficient: str
    exponent: str | None = None
    powers: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True)
class AdditivePowerLaw(Law):
    """A sum of power terms; theta = (log coefficients of all terms, then every exponent once).

    Attributes:
        terms: the sum.
        weights: power of every axis in x of every term, shape (terms, axes).
    """

    name: str
    formula: str
    source: str
    terms: tuple[Term, ...]
    parameters: tuple[str, ...] = field(init=False)
    coefficients: tuple[str, ...] = field(init=False)
    axes: tuple[str, ...] = field(init=False)
    floor: str | None = field(init=False)
    exponents: Mapping[str, str] = field(init=False)
    weights: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        powers = {axis: t.exponent for t in self.terms for axis in t.powers if t.exponent is not None}
        coefficients = tuple(t.coefficient for t in self.terms)
        floors = [t.coefficient for t in self.terms if t.exponent is None]
        exponents = tuple(dict.fromkeys(t.exponent for t in self.terms if t.exponent is not None))
        object.__setattr__(self, "parameters", coefficients + exponents)
        object.__setattr__(self, "coefficients", tuple(c for c in coefficients if c not in floors))
        object.__setattr__(self, "axes", tuple(powers))
        object.__setattr__(self, "floor", floors[0] if floors else None)
        object.__setattr__(self, "exponents", powers)
        weights = np.array([[t.powers.get(axis, 0.0) for axis in powers] for t in self.terms])
        object.__setattr__(self, "weights", weights)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        k = len(self.terms)
        limits = [LOG_COEFFICIENT_BOUNDS] * k + [EXPONENT_BOUNDS] * (len(self.parameters) - k)
        low, high = np.array(limits).T
        return low, high

    def _slots(self) -> list[tuple[int, int | None]]:
        """(position of the log coefficient, position of the exponent) of every term in theta."""
        names = self.parameters
        return [(i, None if t.exponent is None else names.index(t.exponent)) for i, t in enumerate(self.terms)]

    def _softmax(self, theta: FloatArray, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
        """log-sum-exp, shape (batch, n), and the share of every term, shape (terms, batch, n)."""
        z = np.empty((len(self.terms), len(theta), reach.shape[1]))
        for i, e in self._slots():
            z[i] = theta[:, i, None]
            if e is not None:
                z[i] -= theta[:, e, None] * reach[i]
        top = z.max(axis=0)
        z -= top
        np.exp(z, out=z)
        total = z.sum(axis=0)
        z /= total
        return top + np.log(total), z

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        return self._softmax(theta, self.weights @ x)[0]

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        reach = self.weights @ x
        value, share = self._softmax(theta, reach)
        batch, p = theta.shape
        jacobian = np.zeros((batch, p, x.shape[1]))
        for i, e in self._slots():
            jacobian[:, i] = share[i]
            if e is not None:
                jacobian[:, e] -= share[i] * reach[i]

        def curvature(c: FloatArray) -> FloatArray:
            if len(self.terms) == 1:
                return np.zeros((batch, p, p))  # linear in theta: the sums below would leave rounding only
            out = -(jacobian * c[:, None, :]) @ jacobian.transpose(0, 2, 1)
            for i, e in self._slots():
                weighted = c * share[i]
                out[:, i, i] += weighted.sum(axis=1)
                if e is not None:
                    first = weighted @ reach[i]
                    out[:, i, e] -= first
                    out[:, e, i] -= first
                    out[:, e, e] += weighted @ (reach[i] * reach[i])
            return out

        return Linearised(value=value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors from a grid over the exponents; see :mod:`scaling.projection`."""
        reach, k = self.weights @ x, len(self.terms)
        cells = projection.cells(*[projection.GRID] * (len(self.parameters) - k))
        columns = np.zeros((len(cells), k, x.shape[1]))
        for i, e in self._slots():
            if e is not None:
                columns[:, i] = -cells[:, e - k, None] * reach[i]
        best, coefficients = projection.best_cells(columns, y, w, count=count)
        low = np.exp(LOG_COEFFICIENT_BOUNDS[0] / 2)
        return np.concatenate([np.log(np.maximum(coefficients, low)), cells[best]], axis=1)

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""
        out, centre = theta.copy(), self.weights @ frame.centre
        for i, e in self._slots():
            shift = 0.0 if e is None else theta[:, e] * centre[i]
            out[:, i] = np.exp(theta[:, i] + shift + frame.log_scale)
        return out

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""
        out, centre = np.array(natural, dtype=np.float64), self.weights @ frame.centre
        for i, e in self._slots():
            shift = 0.0 if e is None else natural[:, e] * centre[i]
            out[:, i] = np.log(natural[:, i]) - shift - frame.log_scale
        return out
