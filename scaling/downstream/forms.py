"""Formulas of a metric in one variable: linear, logistic, exponential.

The variable x is the loss, or log C in the direct fit of a metric on compute. Every form is linear in two of its
parameters (see :mod:`scaling.separable`), and every form is monotone, in the direction that the metric states.

* ``linear``: p + q x.
* ``logistic``: lo + (hi - lo) / (1 + exp(k (x - x0))), k > 0 where the metric falls with x.
* ``exponential``: eps - k exp(-gamma x), gamma > 0; Gadre et al. 2024 (arXiv 2403.08540) for the error in the loss.
  In x = log C it is a power law of compute with a ceiling, eps - k C^-gamma.

Chance and ceiling are constraints where they are stated: they fix lo and hi of the logistic form, and the asymptote
eps of the exponential one. The range of a metric bounds lo and hi where they are free.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from scaling.downstream.rows import Metric
from scaling.errors import FitInputError
from scaling.points import FloatArray
from scaling.projection import cells

# Limits of what is searched, in units of the range of x: a straight line at one end, a step at the other.
_RATE = (math.log(1e-3), math.log(60.0))
_STEEPNESS = (math.log(0.2), math.log(60.0))
_MIDPOINT = (-3.0, 3.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Posed(ABC):
    """A form for one set of rows; satisfies :class:`scaling.separable.Separable`.

    Attributes:
        x: the variable, shape (n,).
        rising: whether the metric rises with x.
        metric: its direction, chance, ceiling and range.
    """

    x: FloatArray
    rising: bool
    metric: Metric

    @property
    def middle(self) -> float:
        """Middle of the range of x."""
        return float(self.x.min() + self.x.max()) / 2

    @property
    def span(self) -> float:
        """Range of x; 1 where x does not vary."""
        return float(np.ptp(self.x)) or 1.0

    @property
    def far(self) -> float | None:
        """Stated value as x grows without limit: the ceiling where that is an improvement, else chance."""
        improves = self.rising == (self.metric.direction == "max")
        return self.metric.ceiling if improves else self.metric.chance

    @property
    @abstractmethod
    def cells(self) -> FloatArray:
        """Grid of theta, shape (cells, q)."""

    @property
    @abstractmethod
    def limits(self) -> FloatArray:
        """Least and greatest theta, shape (2, q)."""

    @property
    @abstractmethod
    def box(self) -> FloatArray:
        """Least and greatest coefficients, shape (2, 2)."""

    @property
    def ordered(self) -> bool:
        """Whether the second coefficient may not be below the first."""
        return False

    @property
    def free(self) -> int:
        """Number of parameters that are estimated."""
        low, high = self.box
        return self.cells.shape[1] + int(np.sum(low < high))

    @abstractmethod
    def columns(self, theta: FloatArray) -> FloatArray:
        """Both columns at the rows, shape (b, 2, n), for theta (b, q)."""

    @abstractmethod
    def natural(self, theta: FloatArray, coefficients: FloatArray) -> FloatArray:
        """The form's parameters, shape (b, p)."""

    @staticmethod
    @abstractmethod
    def value(parameters: FloatArray, x: FloatArray) -> FloatArray:
        """The form at x, shape (m,) or (b, m), for its parameters, shape (p, b, 1); shape (b, m)."""

    def _slope_box(self, first: float | None) -> FloatArray:
        """Box of (constant, slope): the constant known or free, the slope of the sign that the metric states."""
        constant = (-np.inf, np.inf) if first is None else (first, first)
        slope = (0.0, np.inf) if self.rising else (-np.inf, 0.0)
        return np.array([constant, slope]).T


@dataclass(frozen=True, kw_only=True, eq=False)
class _Linear(Posed):
    @property
    def cells(self) -> FloatArray:
        return np.zeros((1, 0))

    @property
    def limits(self) -> FloatArray:
        return np.zeros((2, 0))

    @property
    def box(self) -> FloatArray:
        return self._slope_box(None)

    def columns(self, theta: FloatArray) -> FloatArray:
        unit = (self.x - self.middle) / self.span
        return np.broadcast_to(np.stack([np.ones_like(unit), unit]), (len(theta), 2, len(unit)))

    def natural(self, theta: FloatArray, coefficients: FloatArray) -> FloatArray:
        slope = coefficients[:, 1] / self.span
        return np.stack([coefficients[:, 0] - slope * self.middle, slope], axis=1)

    @staticmethod
    def value(parameters: FloatArray, x: FloatArray) -> FloatArray:
        p, q = parameters
        return p + q * x


@dataclass(frozen=True, kw_only=True, eq=False)
class _Exponential(Posed):
    """theta = log(gamma times the range of x)."""

    @property
    def cells(self) -> FloatArray:
        return np.linspace(*_RATE, 120)[:, None]

    @property
    def limits(self) -> FloatArray:
        return np.array([_RATE]).T

    @property
    def box(self) -> FloatArray:
        return self._slope_box(self.far)

    def columns(self, theta: FloatArray) -> FloatArray:
        rate = np.exp(theta)
        decay = -rate * (self.x - self.middle) / self.span
        # Rising as it stands and of a size that does not depend on the rate: towards rate 0 it becomes the line.
        second = -np.exp(decay) / rate if self.far is not None else -np.expm1(decay) / rate
        return np.stack([np.ones_like(second), second], axis=1)

    def natural(self, theta: FloatArray, coefficients: FloatArray) -> FloatArray:
        rate = np.exp(theta[:, 0])
        constant, size = coefficients[:, 0], coefficients[:, 1] / rate
        eps = constant if self.far is not None else constant + size
        gamma = rate / self.span
        return np.stack([eps, size * np.exp(gamma * self.middle), gamma], axis=1)

    @staticmethod
    def value(parameters: FloatArray, x: FloatArray) -> FloatArray:
        eps, k, gamma = parameters
        return eps - k * np.exp(-gamma * x)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Logistic(Posed):
    """theta = (log(|k| times the range of x), (x0 - middle) / range); coefficients (lo, hi)."""

    @property
    def cells(self) -> FloatArray:
        return cells(np.linspace(*_STEEPNESS, 36), np.linspace(*_MIDPOINT, 49))

    @property
    def limits(self) -> FloatArray:
        return np.array([_STEEPNESS, _MIDPOINT]).T

    @property
    def box(self) -> FloatArray:
        low, high = self.metric.bottom, self.metric.top
        known = {self.metric.worst: self.metric.chance, self.metric.best: self.metric.ceiling}
        lower = (low, low) if known.get(low) is not None else (low, high)
        upper = (high, high) if known.get(high) is not None else (low, high)
        return np.array([lower, upper]).T

    @property
    def ordered(self) -> bool:
        return True

    def columns(self, theta: FloatArray) -> FloatArray:
        unit = (self.x - self.middle) / self.span
        z = np.exp(theta[:, :1]) * (unit - theta[:, 1:])
        share = 1.0 / (1.0 + np.exp(np.clip(-z if self.rising else z, -500.0, 500.0)))
        return np.stack([1.0 - share, share], axis=1)

    def natural(self, theta: FloatArray, coefficients: FloatArray) -> FloatArray:
        k = np.exp(theta[:, 0]) / self.span * (-1.0 if self.rising else 1.0)
        return np.column_stack([coefficients, k, self.middle + self.span * theta[:, 1]])

    @staticmethod
    def value(parameters: FloatArray, x: FloatArray) -> FloatArray:
        lo, hi, k, x0 = parameters
        return lo + (hi - lo) / (1.0 + np.exp(np.clip(k * (x - x0), -500.0, 500.0)))


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form by name.

    Attributes:
        name: what ``--form`` takes.
        formula: plain text in the loss L.
        parameters: names of its parameters.
        kind: how it is posed for rows.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    kind: type[Posed]

    def pose(self, x: FloatArray, metric: Metric, *, rising: bool) -> Posed:
        """The form for rows at x, shape (n,)."""
        return self.kind(x=x, rising=rising, metric=metric)

    def evaluate(self, parameters: FloatArray, x: FloatArray) -> FloatArray:
        """Value at x, shape (b, m) or (m,), for parameters (b, p); shape (b, m)."""
        return self.kind.value(parameters.T[:, :, None], x)


FORMS: dict[str, Form] = {
    "linear": Form(name="linear", formula="p + q L", parameters=("p", "q"), kind=_Linear),
    "logistic": Form(
        name="logistic",
        formula="lo + (hi - lo) / (1 + exp(k (L - L0)))",
        parameters=("lo", "hi", "k", "L0"),
        kind=_Logistic,
    ),
    "exponential": Form(
        name="exponential", formula="eps - k exp(-gamma L)", parameters=("eps", "k", "gamma"), kind=_Exponential
    ),
}


def get_form(name: str) -> Form:
    """The form of that name.

    Raises:
        FitInputError: there is none.
    """
    if name not in FORMS:
        raise FitInputError(f"no form is called '{name}': valid: {', '.join(FORMS)}")
    return FORMS[name]
