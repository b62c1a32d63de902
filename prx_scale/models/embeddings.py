"""Fixed sinusoids: of the time, and of a patch's place on the grid."""

from __future__ import annotations

import torch
from torch import Tensor

TIME_SCALE = 1000.0
"""The network sees 1000 t."""


def time_frequencies(t: Tensor, width: int) -> Tensor:
    """[cos(1000 t w_k) | sin(1000 t w_k)] with w_k = 10000^(-k / (width/2)).

    Args:
        t: (B,) times in [0, 1], float32.
        width: even.

    Returns:
        (B, width).
    """
    half = width // 2
    rates = torch.exp(-torch.arange(half, device=t.device, dtype=torch.float32) * (9.210340371976184 / half))
    angles = TIME_SCALE * t[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """2-D sin-cos positions: the first half encodes the column, the second the row, each as [sin | cos].

    w_k = 10000^(-k / (width/4)), as in DiT and SD3 at the base resolution, where the spacing is 1.

    Args:
        rows: patches along the height.
        columns: patches along the width.
        width: divisible by 4.

    Returns:
        (rows * columns, width), row by row.
    """
    quarter = width // 4
    rates = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def line(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    column = line(columns)[None].expand(rows, -1, -1)
    row = line(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([column, row], dim=-1).reshape(rows * columns, width).float()
