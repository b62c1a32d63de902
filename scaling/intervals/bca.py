"""Bias-corrected and accelerated bootstrap (Efron 1987): percentiles moved for median bias and for skewness.

The acceleration comes from leaving out one cluster at a time, all fits in one batch.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from scaling.points import FloatArray

NORMAL = NormalDist()


def bounds(value: float, draws: FloatArray, left_out: FloatArray, level: float) -> tuple[float, float]:
    """BCa interval of one number.

    Args:
        value: the estimate.
        draws: its bootstrap draws, shape (b,).
        left_out: the estimate without each cluster, shape (clusters,).
        level: level of the interval.

    Returns:
        Lower and upper end; nan without draws.
    """
    if not len(draws):
        return float("nan"), float("nan")
    # Ties with the estimate count half; all draws on one side still leave a finite correction.
    below = float(np.mean(draws < value) + np.mean(draws <= value)) / 2.0
    bias = NORMAL.inv_cdf(min(max(below, 0.5 / len(draws)), 1.0 - 0.5 / len(draws)))
    pull = left_out.mean() - left_out
    spread = float(np.sum(pull**2))
    acceleration = float(np.sum(pull**3)) / (6.0 * spread**1.5) if spread > 0 else 0.0
    moved = [bias + NORMAL.inv_cdf(share) for share in (0.5 - 0.5 * level, 0.5 + 0.5 * level)]
    shares = [NORMAL.cdf(bias + each / max(1.0 - acceleration * each, 1e-3)) for each in moved]
    low, high = np.quantile(draws, shares)
    return float(low), float(high)
