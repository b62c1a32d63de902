"""Rectified flow: a straight path from data to noise (Esser et al. 2024, eq. 13)."""

from __future__ import annotations

from torch import Tensor


def _column(t: Tensor, like: Tensor) -> Tensor:
    return t.view(-1, *([1] * (like.ndim - 1)))


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) x0 + t eps.

    Args:
        x0: (B, ...) data.
        noise: (B, ...) standard normal.
        t: (B,) in [0, 1].

    Returns:
        (B, ...) noisy data.
    """
    t = _column(t, x0)
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """dz/dt = eps - x0, what the network is trained to predict.

    Args:
        x0: (B, ...) data.
        noise: (B, ...) standard normal.
    """
    return noise - x0


def data_from_velocity(z: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """x0 = z - t v.

    Args:
        z: (B, ...) noisy data.
        v: (B, ...) velocity.
        t: (B,) in [0, 1].
    """
    return z - _column(t, z) * v


def noise_from_velocity(z: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """eps = z + (1 - t) v.

    Args:
        z: (B, ...) noisy data.
        v: (B, ...) velocity.
        t: (B,) in [0, 1].
    """
    return z + (1 - _column(t, z)) * v
