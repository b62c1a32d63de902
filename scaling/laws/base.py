"""What a law has to offer so that it can be fitted, resampled, reported and drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Linearised:
    """A law around a batch of parameter vectors.

    Attributes:
        value: log of the predicted loss, shape (batch, n).
        jacobian: its derivatives, shape (batch, p, n).
        curvature: maps row weights c, shape (batch, n), to ``sum_i c_i Hessian_i``, shape (batch, p, p).
    """

    value: FloatArray
    jacobian: FloatArray
    curvature: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The units inside a fit: logarithms are centred, the loss is divided by its geometric mean.

    Centring is not cosmetic: with raw N around 1e9 an exponent and its coefficient correlate to 0.9997
    and line searches stall.

    Attributes:
        centre: mean of log x per axis of the law, shape (axes,).
        log_scale: mean of log loss.
    """

    centre: FloatArray
    log_scale: float


class Law(ABC):
    """A formula for the loss. One file per law; a subclass or an instance of ``AdditivePowerLaw``.

    ``theta`` is the internal vector (logarithms of coefficients, then exponents) in the units of a
    :class:`Frame`; ``natural`` is what people read and what results store.

    Attributes:
        name: what ``--law`` takes.
        formula: plain text, with the symbols of ``parameters``.
        source: where the law comes from.
        parameters: names of the natural parameters, in the order of ``theta``.
        coefficients: those of them whose standard error is given for the logarithm.
        axes: the quantities it needs, of ``scaling.points.AXES``.
        floor: name of the irreducible loss, None where the law has none.
        n_starts: how many starts a fit begins with; more for laws whose objective has many local minima.
        exponents: exponent parameter of each axis along which points have to differ; axes that a law needs and
            that may be constant, such as "unique", are not in it.
    """

    name: str
    formula: str
    source: str
    parameters: tuple[str, ...]
    coefficients: tuple[str, ...]
    axes: tuple[str, ...]
    floor: str | None
    exponents: Mapping[str, str]
    n_starts: int = 8

    @property
    @abstractmethod
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of theta, each of shape (p,)."""

    def limits(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Limits of theta for points at x (axes, n): ``bounds``, where the points do not narrow them."""
        return self.bounds

    def check(self, x: FloatArray) -> None:
        """Refuse points at x (axes, n) that cannot determine the law, where that can be known before a fit.

        Raises:
            FitInputError: they cannot; the message says what is missing.
        """
        return

    @abstractmethod
    def log_loss(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """Log of the predicted loss, shape (batch, n), for theta (batch, p) and x (axes, n)."""

    @abstractmethod
    def linearise(self, theta: FloatArray, x: FloatArray) -> Linearised:
        """Value and derivatives at theta (batch, p) for x (axes, n)."""

    @abstractmethod
    def starts(self, x: FloatArray, y: FloatArray, w: FloatArray, count: int) -> FloatArray:
        """Up to ``count`` distinct starting vectors, best first, shape (count, p); y is (n,), w is (n,)."""

    @abstractmethod
    def to_natural(self, theta: FloatArray, frame: Frame) -> FloatArray:
        """Natural parameters, shape (batch, p)."""

    @abstractmethod
    def to_internal(self, natural: FloatArray, frame: Frame) -> FloatArray:
        """Inverse of :meth:`to_natural`."""

    def compute_optimal(self, natural: FloatArray) -> dict[str, FloatArray]:
        """Exponents of the compute-optimal size and data in C, each (batch,); empty without a trade-off."""
        return {}

    def frontier(
        self, natural: FloatArray, flops: FloatArray, flops_per: float
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Compute-optimal params, data and loss, each (batch, m), for C = flops_per N D; None without one."""
        return None

    def predict(self, natural: FloatArray, x: FloatArray) -> FloatArray:
        """Predicted loss, shape (batch, m), for natural (batch, p) and uncentred log axes x (axes, m)."""
        frame = Frame(centre=np.zeros(len(self.axes)), log_scale=0.0)
        return np.exp(self.log_loss(self.to_internal(natural, frame), x))
