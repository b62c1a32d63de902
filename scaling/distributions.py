"""Quantiles and tails of distributions, typed.

Every fit asks for a tail of F, and importing scipy for it would take longer than the fit: that one is computed here.
Other functions import scipy when they are asked for.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p

_MOST_TERMS = 20_000


def student_quantile(share: float, freedom: float) -> float:
    """x with P(t <= x) = share, for Student's t with ``freedom`` degrees of freedom."""
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return float(stdtrit(freedom, share))  # pyright: ignore[reportUnknownArgumentType]


def fisher_tail(x: float, first: float, second: float) -> float:
    """P(F > x) for Fisher's F with ``first`` and ``second`` degrees of freedom, x not negative.

    It is the regularised incomplete beta function I_z(second / 2, first / 2) at z = second / (second + first x).
    """
    if x <= 0.0:
        return 1.0
    return _incomplete_beta(second / 2, first / 2, second / (second + first * x))


def _incomplete_beta(a: float, b: float, z: float) -> float:
    """I_z(a, b) for 0 < z < 1, by its continued fraction on the side of the mean where that converges quickly."""
    if z <= 0.0 or z >= 1.0:
        return float(z >= 1.0)
    if z > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(b, a, 1.0 - z)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(z) + b * log1p(-z)) / a
    return front * _continued_fraction(a, b, z)


def _continued_fraction(a: float, b: float, z: float) -> float:
    """The continued fraction of the incomplete beta function, evaluated forwards (Lentz's method)."""
    upper, lower = 1.0, 1.0 / (1.0 - (a + b) * z / (a + 1.0))
    value = lower
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * z / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * z / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            upper, lower = 1.0 + term / upper, 1.0 / (1.0 + term * lower)
            value *= upper * lower
        if abs(upper * lower - 1.0) < 1e-15:
            break
    return value
