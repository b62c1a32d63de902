"""Training curves, and predictions of where they go: the records of :mod:`scaling.curves`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scaling.errors import FitInputError
from scaling.estimates import Estimate
from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Losses of one run.

    Args:
        run: its name.
        step: optimiser steps, shape (n,), positive; sorted where they are not.
        loss: loss at those steps, shape (n,), finite and positive.
        rate: learning rate at those steps, shape (n,); None where it is not known and taken to be constant.
        params: size of the model, N; None where it is not known, and then no run is of the same size.

    Raises:
        FitInputError: lengths differ, a step is there twice, or a value is not finite or positive.
    """

    run: str
    step: FloatArray
    loss: FloatArray
    rate: FloatArray | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        step, loss = np.asarray(self.step, dtype=np.float64), np.asarray(self.loss, dtype=np.float64)
        rate = None if self.rate is None else np.asarray(self.rate, dtype=np.float64)
        if step.shape != loss.shape or step.ndim != 1 or (rate is not None and rate.shape != step.shape):
            raise FitInputError(f"run {self.run}: steps, losses and learning rates must be columns of one length")
        for name, values in (("step", step), ("loss", loss)):
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if len(bad):
                raise FitInputError(f"run {self.run}: {name} {values[bad[0]]} is not a finite, positive number")
        order = np.argsort(step, kind="stable")
        twice = np.flatnonzero(np.diff(step[order]) == 0)
        if len(twice):
            raise FitInputError(f"run {self.run}: step {step[order][twice[0]]:g} is there twice")
        object.__setattr__(self, "step", step[order])
        object.__setattr__(self, "loss", loss[order])
        object.__setattr__(self, "rate", None if rate is None else rate[order])

    def between(self, first: float, last: float) -> Curve:
        """The rows of steps ``first`` to ``last``, both included."""
        keep = (self.step >= first) & (self.step <= last)
        rate = None if self.rate is None else self.rate[keep]
        return replace(self, step=self.step[keep], loss=self.loss[keep], rate=rate)


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """The loss of a run at a later step.

    Attributes:
        run: the run.
        n: losses it was fitted on.
        last: last step of them.
        to: the step predicted.
        loss: median of the predicted loss.
        interval: where a measured loss falls.
        parameters: E, K, s0 and g of this run: medians, standard deviations and intervals.
        correlation: of neighbouring residuals.
        noise: relative standard deviation of a residual at the best pair.
        borrowed: complete runs of the same size whose shape informed this one.
        tests: backtests behind the interval.
        widened: factor by which they widened it, in log loss; 1 where they did not.
    """

    run: str
    n: int
    last: float
    to: float
    loss: float
    interval: tuple[float, float]
    parameters: dict[str, Estimate]
    correlation: float
    noise: float
    borrowed: int
    tests: int = 0
    widened: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One prediction of a measured loss from an earlier part of the same run.

    Attributes:
        prediction: the prediction.
        measured: the loss at its step.
    """

    prediction: Extrapolation
    measured: float

    @property
    def error(self) -> float:
        """Measured - predicted."""
        return self.measured - self.prediction.loss

    @property
    def inside(self) -> bool:
        """Whether the measured loss is in the interval."""
        low, high = self.prediction.interval
        return low <= self.measured <= high
