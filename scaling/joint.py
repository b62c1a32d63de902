"""One law for several variants that share some of its parameters and have others of their own.

theta is what all variants share, then for every variant what varies. All of it is in the units of one Frame, so a
coefficient that varies is compared at the geometric mean of the points, not at N = 1 where exponents that differ by a
little would move it by orders of magnitude; where its exponent is shared the two are the same ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.laws.base import Frame, Law, Linearised
from scaling.points import FloatArray

VARIANT = "variant"


class Joint(Law):
    """A law whose points carry the number of their variant as a last row of x.

    Its parameters stay in the units of the frame; :meth:`of_variant` gives the base law's of one variant.
    """

    def __init__(self, law: Law, n_variants: int, vary: Sequence[str]) -> None:
        self.law, self.n_variants = law, n_variants
        self.vary = tuple(name for name in law.parameters if name in vary)
        shared = [name for name in law.parameters if name not in self.vary]
        own = [f"{name}[{variant}]" for variant in range(n_variants) for name in self.vary]
        self.name, self.formula, self.source = f"joint {law.name}", law.formula, law.source
        self.parameters = (*shared, *own)
        self.coefficients = ()
        self.axes = (*law.axes, VARIANT)
        self.floor, self.n_starts = None, law.n_starts
        self.exponents: Mapping[str, str] = {}
        slots = [self._slot(name, shared) for name in law.parameters]
        steps = np.array([len(self.vary) if name in self.vary else 0 for name in law.parameters])
        self._slots: npt.NDArray[np.intp] = np.array(slots) + steps * np.arange(n_variants)[:, None]

    def _slot(self, name: str, shared: Sequence[str]) -> int:
        return shared.index(name) if name in shared else len(shared) + self.vary.index(name)

    def of_variant(self, theta: FloatArray, variant: int) -> FloatArray:
        """The base law's theta of one variant, shape (batch, p)."""
        return theta[:, self._slots[variant]]

    def _spread(self, low_or_high: FloatArray) -> FloatArray:
        out = np.empty(len(self.parameters))
        out[self._slots] = low_or_high
        return out

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""
        low, high = self.law.bounds
        return self._spread(low), self._spread(high)

    def limits(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Limits of theta for points at x."""
        low, high = self.law.limits(x[:-1])
        return self._spread(low), self._spread(high)

    def _rows(self, x: FloatArray) -> list[npt.NDArray[np.intp]]:
        """Row numbers of every variant."""
        return [np.flatnonzero(x[-1] == variant) for variant in range(self.n_variants)]

    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""
        out = np.empty((len(theta), x.shape[1]))
        for variant, rows in enumerate(self._rows(x)):
            out[:, rows] = self.law.log_loss(self.of_variant(theta, variant), x[:-1, rows])
        return out

    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""
        batch, p = theta.shape
        value, jacobian = np.empty((batch, x.shape[1])), np.zeros((batch, p, x.shape[1]))
        rows = self._rows(x)
        parts = [self.law.linearise(self.of_variant(theta, v), x[:-1, own]) for v, own in enumerate(rows)]
        for part, own, slots in zip(parts, rows, self._slots, strict=True):
            value[:, own] = part.value
            jacobian[:, slots[:, None], own] = part.jacobian

        def curvature(c: FloatArray) -> FloatArray:
            out = np.zeros((batch, p, p))
            for part, own, slots in zip(parts, rows, self._slots, strict=True):
                out[:, slots[:, None], slots] += part.curvature(c[:, own])
            return out

        return Linearised(value=value, jacobian=jacobian, curvature=curvature)

    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Starting vectors: those of all points together, and what varies from those of every variant alone."""
        together = self.law.starts(x[:-1], y, w, count)
        out = np.zeros((len(together), len(self.parameters)))
        for variant in range(self.n_variants):
            out[:, self._slots[variant]] = together
        if count == 1 or not self.vary:
            return out
        varied = [name in self.vary for name in self.law.parameters]
        for variant, rows in enumerate(self._rows(x)):
            alone = self.law.starts(x[:-1, rows], y[rows], w[rows], count)
            picked = alone[np.arange(1, len(out), 2) % len(alone)]
            out[1::2, self._slots[variant][varied]] = picked[:, varied]
        return out

    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """theta itself; see the class."""
        return theta

    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """theta itself; see the class."""
        return natural


def joint(law: Law, n_variants: int, vary: Sequence[str] = ()) -> Joint:
    """A law for several variants.

    Args:
        law: the law of every variant.
        n_variants: how many there are.
        vary: names of the parameters that every variant has for itself; none shares everything.

    Raises:
        FitInputError: a name that the law does not have.
    """
    for name in vary:
        if name not in law.parameters:
            raise FitInputError(f"law '{law.name}' has no parameter {name}: valid: {', '.join(law.parameters)}")
    return Joint(law, n_variants, vary)
