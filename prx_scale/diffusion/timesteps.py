"""Densities of the training timestep, as transforms of one standard normal draw, with their densities for tests.

A tailored density replaces a loss weight: t is drawn from it and the squared error stays unweighted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from prx_scale.runtables import Objective

Floats = NDArray[np.float64]


def timesteps(objective: Objective, normal: Floats) -> Floats:
    """Timesteps from standard normal draws.

    Args:
        objective: names the density.
        normal: (B,) standard normal.

    Returns:
        (B,) in [0, 1]. logit-normal: sigmoid(m + s n); uniform: the normal's distribution function.
    """
    if objective.timesteps == "logit-normal":
        return expit(objective.location + objective.scale * normal)
    return ndtr(normal)


def shifted(t: Floats, alpha: float) -> Floats:
    """Times moved towards noise for more pixels: t' = alpha t / (1 + (alpha - 1) t), so logit t' = logit t + log alpha.

    alpha = sqrt(m / n) keeps the signal's uncertainty when n pixels become m (Esser et al. 2024, section 5.3.2).

    Args:
        t: in [0, 1].
        alpha: 1 changes nothing; above 1 moves towards noise.
    """
    return alpha * t / (1 + (alpha - 1) * t)


def density(objective: Objective, t: Floats) -> Floats:
    """The density that `timesteps` draws from.

    logit-normal (Esser et al. 2024, eq. 19): exp(-(logit t - m)^2 / (2 s^2)) / (s sqrt(2 pi) t (1 - t)).

    Args:
        objective: names the density.
        t: in (0, 1).
    """
    if objective.timesteps == "uniform":
        return np.ones_like(t)
    s = objective.scale
    exponent = -((logit(t) - objective.location) ** 2) / (2 * s**2)
    return np.exp(exponent) / (s * math.sqrt(2 * math.pi) * t * (1 - t))
