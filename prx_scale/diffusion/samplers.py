"""From noise to images along the learned velocity, with classifier-free guidance."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from prx_scale.diffusion.timesteps import shifted

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(z (B, ...), t (B,)) -> velocity (B, ...)."""


def guided(conditional: Velocity, unconditional: Velocity, guidance: float) -> Velocity:
    """v = v_uncond + g (v_cond - v_uncond); g = 1 is unguided.

    Args:
        conditional: velocity under the prompt.
        unconditional: velocity under the empty condition.
        guidance: g.
    """

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        base = unconditional(z, t)
        return base + guidance * (conditional(z, t) - base)

    return conditional if guidance == 1 else velocity


def euler(velocity: Velocity, noise: Tensor, steps: int, shift: float = 1.0) -> Tensor:
    """z <- z + (t_next - t) v(z, t) on a grid from t = 1 to t = 0, even but for the shift.

    Args:
        velocity: of z at t.
        noise: (B, ...) the start, at t = 1.
        steps: number of steps.
        shift: alpha of `timesteps.shifted`, the one that the model was trained with.

    Returns:
        (B, ...) at t = 0.
    """
    z = noise
    grid = shifted(np.linspace(1, 0, steps + 1), shift).tolist()
    for t, t_next in itertools.pairwise(grid):
        z = z + (t_next - t) * velocity(z, torch.full((len(z),), t, device=z.device))
    return z
