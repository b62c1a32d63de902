"""Rectified flow: a straight path from data to noise (Esser et al. 2024, eq. 13)."""

from __future__ import annotations

from torch import Tensor


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) x0 + t eps.

    Args:
        x0: (B, ...) data.
        noise: (B, ...) standard normal.
        t: (B,) in [0, 1].

    Returns:
        (B, ...) noisy data.
    """
    t = t.view(-1, *([1] * (x0.ndim - 1)))
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """dz/dt = eps - x0, what the network is trained to predict.

    Args:
        x0: (B, ...) data.
        noise: (B, ...) standard normal.
    """
    return noise - x0
