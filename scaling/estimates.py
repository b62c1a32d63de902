"""A number with its uncertainty, and how that is made of draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: the estimate on all points.
        stderr: standard deviation over resamples, or of normal theory (delta, profile); nan without either.
        interval: at the result's level, of the result's kind; an open end is 0 or infinite.
        stderr_log: standard deviation of the logarithm, for coefficients whose own one explodes.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    stderr_log: float | None = None


def interval_bounds(level: float) -> tuple[float, float]:
    """Lower and upper quantile of a central interval."""
    return 0.5 - 0.5 * level, 0.5 + 0.5 * level


def estimate(value: float, draws: FloatArray, level: float, *, log: bool = False) -> Estimate:
    """An estimate with percentile interval and standard error from its draws, shape (b,); b may be 0."""
    if not len(draws):
        return Estimate(value=float(value), stderr=float("nan"), interval=(float("nan"), float("nan")))
    low, high = np.quantile(draws, interval_bounds(level))
    spread = float(np.std(np.log(draws))) if log else None
    return Estimate(
        value=float(value), stderr=float(np.std(draws)), interval=(float(low), float(high)), stderr_log=spread
    )
