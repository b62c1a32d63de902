"""Quantiles and tails of distributions, typed; scipy is imported when one is asked for."""

from __future__ import annotations

from typing import Any


def _special() -> Any:
    import scipy.special as special  # pyright: ignore[reportMissingTypeStubs]

    return special


def student_quantile(share: float, freedom: float) -> float:
    """x with P(t <= x) = share, for Student's t with ``freedom`` degrees of freedom."""
    return float(_special().stdtrit(freedom, share))


def fisher_tail(x: float, first: float, second: float) -> float:
    """P(F > x) for Fisher's F with ``first`` and ``second`` degrees of freedom."""
    return float(_special().fdtrc(first, second, x))
