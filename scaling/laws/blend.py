"""The smooth maximum of two power terms, ``f = k log(exp(u / k) + exp(v / k))``, and its derivatives.

Laws that couple parameters and data are written with it: for u = k (log A - p log N) and
v = k (log B - q log D), ``exp(f) = (A N^-p + B D^-q)^k``. k = 1 adds the terms, k -> 0 takes the larger.
With ``t = (u - v) / k``, the share ``s = 1 / (1 + exp(-t))`` and the entropy H of (s, 1 - s):
``df = s du + (1 - s) dv + H dk``, and the Hessian is ``s (1 - s) / k`` times the square of ``(1, -1, -t)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.points import FloatArray


@dataclass(frozen=True, kw_only=True)
class Blend:
    """The smooth maximum of u and v; all of the shape of u.

    Attributes:
        value: f.
        share: df/du; df/dv is 1 - share.
        entropy: df/dk.
        gap: t = (u - v) / k.
        bend: s (1 - s) / k.
    """

    value: FloatArray
    share: FloatArray
    entropy: FloatArray
    gap: FloatArray
    bend: FloatArray


def blend(u: FloatArray, v: FloatArray, k: FloatArray) -> Blend:
    """Smooth maximum of u and v with temperature k > 0; the three broadcast."""
    gap = (u - v) / k
    distance = np.abs(gap)
    smaller = np.exp(-distance)  # of the two terms, over the larger: never overflows
    minor = smaller / (1.0 + smaller)
    excess = np.log1p(smaller)
    return Blend(
        value=np.maximum(u, v) + k * excess,
        share=np.where(gap >= 0, 1.0 - minor, minor),
        entropy=excess + distance * minor,
        gap=gap,
        bend=minor * (1.0 - minor) / k,
    )


def safe_exp(log: FloatArray) -> FloatArray:
    """exp, kept within finite, positive numbers: scales of barely determined resamples leave them."""
    return np.exp(np.clip(log, -700.0, 700.0))
