"""The kinds of interval, behind one function.

* ``residual``: percentiles of a bootstrap that draws new noise on the same design (:mod:`scaling.noise`); default.
* ``percentile``: percentiles of a bootstrap of clusters (:mod:`scaling.bootstrap`), as in published fits.
* ``bca``: the same draws, corrected for bias and skewness.
* ``delta``: normal theory around the optimum; no resamples.
* ``profile``: likelihood ratio; least squares only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.errors import FitInputError
from scaling.estimates import Estimate, interval_bounds
from scaling.intervals import bca
from scaling.intervals.delta import Covariance, covariance
from scaling.intervals.profile import Profile, profile
from scaling.intervals.quantity import Quantity
from scaling.jackknife import leave_one_out
from scaling.points import FloatArray, Points
from scaling.problem import Optimum, Problem

KINDS = ("residual", "percentile", "bca", "delta", "profile")
DEFAULT = "residual"
_NONE = (float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Intervals of one kind for one fit.

    Attributes:
        kind: one of ``KINDS``.
        problem: the posed fit.
        points: its rows.
        optimum: its optimum.
        draws: internal parameters of every resample, shape (b, p).
        level: level of the intervals.
    """

    kind: str
    problem: Problem
    points: Points
    optimum: Optimum
    draws: FloatArray
    level: float

    @cached_property
    def _covariance(self) -> Covariance:
        return covariance(self.problem, self.points, self.optimum)

    @cached_property
    def _profile(self) -> Profile:
        return profile(self.problem, self.points, self.optimum)

    @cached_property
    def _left_out(self) -> FloatArray:
        return leave_one_out(self.problem, self.points, self.optimum)

    def interval(self, quantity: Quantity) -> tuple[float, float]:
        """Lower and upper end in natural units; 0 or infinity where an end is open, nan without resamples."""
        low, high = self._working(quantity)
        return (max(quantity.natural(low), 0.0), quantity.natural(high)) if not np.isnan(low) else _NONE

    def _working(self, quantity: Quantity) -> tuple[float, float]:
        if self.kind == "delta":
            return self._covariance.bounds(quantity, self.level)
        if self.kind == "profile":
            return self._profile.bounds(quantity, self.level)
        if not len(self.draws):
            return _NONE
        values = quantity.of(self.draws)
        if self.kind == "bca":
            centre = float(quantity.of(self.optimum.theta[None])[0])
            return bca.bounds(centre, values, quantity.of(self._left_out), self.level)
        low, high = np.quantile(values, interval_bounds(self.level))
        return float(low), float(high)

    def estimate(self, quantity: Quantity) -> Estimate:
        """The quantity with its standard error and interval."""
        working = float(quantity.of(self.optimum.theta[None])[0])
        value = quantity.natural(working)
        if self.kind in ("delta", "profile"):
            spread = self._covariance.stderr(quantity)
            stderr = value * spread if quantity.log else spread
        elif len(self.draws):
            values = quantity.of(self.draws)
            spread = float(np.std(values))
            stderr = float(np.std(np.exp(np.minimum(values, 700.0)))) if quantity.log else spread
        else:
            return Estimate(value=value, stderr=float("nan"), interval=_NONE)
        interval = self.interval(quantity)
        return Estimate(value=value, stderr=stderr, interval=interval, stderr_log=spread if quantity.log else None)


def bounds_of(kind: str, problem: Problem, points: Points, optimum: Optimum, draws: FloatArray, level: float) -> Bounds:
    """Intervals of that kind; arguments as in :class:`Bounds`.

    Raises:
        FitInputError: no such kind, or one that this loss does not allow.
    """
    check_kind(kind)
    if kind == "profile":
        profile(problem, points, optimum)
    return Bounds(kind=kind, problem=problem, points=points, optimum=optimum, draws=draws, level=level)


def check_kind(kind: str) -> None:
    """Raises FitInputError where no kind has that name."""
    if kind not in KINDS:
        raise FitInputError(f"no intervals are called '{kind}': valid: {', '.join(KINDS)}")
