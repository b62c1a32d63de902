"""What a fit minimises: a function of every row's residual, summed over rows and never averaged.

An averaged loss shrinks gradients by the number of rows, and optimisers then stop early.

* ``huber``: Huber's function of the difference of log losses with delta = 1e-3, the choice of Hoffmann et al. 2022
  (arXiv 2203.15556, eq. 3). Few rows lie within delta, so it is close to ``lad``.
* ``least-squares``: half the squared difference of log losses.
* ``lad``: least absolute deviation of log losses, the limit of Huber's function over delta as delta goes to 0. What
  Besiroglu et al. 2024 (arXiv 2404.10102) print is this optimum: the scale that their last step frees collapses.
* ``linear``: half the squared difference of the losses themselves, which large losses decide.

``asymmetry`` multiplies the loss of rows below the curve. A run that was tuned badly lies above the surface of good
runs, never below it, so a factor such as 10 draws the curve towards the lower edge of the points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scaling.errors import FitInputError
from scaling.points import FloatArray

LOSSES = ("huber", "least-squares", "lad", "linear")
DELTA = 1e-3
_LAD_STAGES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # the last differs from delta = 0 by 1e-8 of log loss in some rows
_WIDER = 10.0  # starts are first fitted with a zone that much wider, where there are fewer kinks


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """A loss as the solver sees it.

    Attributes:
        name: one of ``LOSSES``.
        delta: half the width of the quadratic zone; inf is least squares.
        asymmetry: factor on rows that the law predicts too high.
        precision: the loss is that of residuals times this, shape (n,), of rows whose weight carries its square; None
            is 1 for all.
    """

    name: str = "huber"
    delta: float = DELTA
    asymmetry: float = 1.0
    precision: FloatArray | None = None

    @property
    def _zone(self) -> float | FloatArray:
        return self.delta if self.precision is None else self.delta / self.precision

    @property
    def linear(self) -> bool:
        """Whether residuals are differences of losses, not of their logarithms."""
        return self.name == "linear"

    @property
    def quadratic(self) -> bool:
        """Whether it is a sum of squares."""
        return bool(np.isinf(self.delta))

    @property
    def text(self) -> str:
        """What is minimised, in words."""
        kinds = {
            "huber": f"huber({self.delta:g}) on log loss, summed",
            "least-squares": "half squared log loss, summed",
            "lad": "absolute deviation of log loss, summed",
            "linear": "half squared loss, summed",
        }
        side = f"; rows below the curve count {self.asymmetry:g}-fold" if self.asymmetry != 1.0 else ""
        known = "; rows weighted by their standard errors" if self.precision is not None else ""
        return kinds[self.name] + side + known

    def stages(self) -> tuple[Loss, ...]:
        """The losses to minimise one after the other, each from the optimum of the one before; the last is this one."""
        if self.name != "lad":
            return (self,)
        return tuple(replace(self, delta=self.delta * (step / _LAD_STAGES[-1])) for step in _LAD_STAGES)

    def wider(self) -> Loss:
        """The first stage with a wider zone."""
        first = self.stages()[0]
        return replace(first, delta=_WIDER * first.delta)

    def objective(self, total: float, log_scale: float) -> float:
        """The sum of the solver, in the units that it is reported in.

        Args:
            total: sum over rows, of losses divided by their geometric mean.
            log_scale: log of that mean.
        """
        if self.name == "lad":
            return total / _LAD_STAGES[-1]
        return total * float(np.exp(2.0 * log_scale)) if self.linear else total

    def of(self, residual: FloatArray) -> FloatArray:
        """The loss elementwise: r^2/2 within delta, delta (|r| - delta/2) beyond it, times the asymmetry."""
        size = np.abs(residual)
        inside = np.minimum(size, self._zone)
        return self._side(residual, inside * (size - 0.5 * inside))

    def slope(self, residual: FloatArray) -> FloatArray:
        """First derivative by the residual, elementwise."""
        return self._side(residual, np.clip(residual, -self._zone, self._zone))

    def curvature(self, residual: FloatArray) -> FloatArray:
        """Second derivative by the residual, elementwise."""
        return self._side(residual, (np.abs(residual) <= self._zone).astype(np.float64))

    def reweighting(self, residual: FloatArray) -> FloatArray:
        """Weight of every row in iteratively reweighted least squares: slope over residual."""
        return self._side(residual, 1.0 / np.maximum(np.abs(residual) / self._zone, 1.0))

    def _side(self, residual: FloatArray, values: FloatArray) -> FloatArray:
        return values if self.asymmetry == 1.0 else np.where(residual < 0, self.asymmetry * values, values)


HUBER = Loss()
LEAST_SQUARES = Loss(name="least-squares", delta=np.inf)


def make(name: str, delta: float, asymmetry: float) -> Loss:
    """The loss of that name.

    Args:
        name: one of ``LOSSES``.
        delta: half the width of Huber's quadratic zone in log loss; the others have none.
        asymmetry: factor on rows that the law predicts too high.

    Raises:
        FitInputError: unknown name, or a delta or asymmetry that is not positive.
    """
    if name not in LOSSES:
        raise FitInputError(f"no loss is called '{name}': valid: {', '.join(LOSSES)}")
    if not delta > 0:
        raise FitInputError(f"delta is {delta}: Huber's zone must have a positive width, usually 1e-3")
    if not (np.isfinite(asymmetry) and asymmetry > 0):
        raise FitInputError(f"asymmetry is {asymmetry}: give a positive factor; 1 treats both sides alike")
    zone = {"huber": delta, "lad": _LAD_STAGES[-1]}
    return Loss(name=name, delta=zone.get(name, np.inf), asymmetry=asymmetry)
