"""Recognise a table of sin-cos positions: which evenly spaced grid it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prx_scale.models.embeddings import PositionGrid, sincos_positions

FLOAT32_TOLERANCE = 1e-5
"""Angles of some hundred, in float32, leave so much in a sine."""


@dataclass(frozen=True, kw_only=True)
class EvenGrid:
    """Places along both sides: origin + p step, p = 0 .. side - 1."""

    side: int
    origin: float
    step: float

    def table(self, width: int) -> Tensor:
        """(side, side, width) sin-cos positions, float32.

        Args:
            width: divisible by 4.
        """
        places = self.origin + self.step * torch.arange(self.side, dtype=torch.float64)
        return sincos_positions(places, places, width)

    def as_settings(self) -> PositionGrid | None:
        """The nearest grid of whole numbers of patches along an image and of its base; None where there is none near.

        `PositionGrid` has origin -(side - image) / 2 * base / image and step base / image.
        """
        image = round(self.side + 2 * self.origin / self.step) if self.step else 0
        base = round(image * self.step)
        return PositionGrid(side=self.side, image=image, base=base) if 1 <= image <= self.side and base >= 1 else None


def tolerance(dtype: torch.dtype) -> float:
    """How far apart two roundings of the same sine may be.

    Args:
        dtype: in which a table was stored.
    """
    return max(FLOAT32_TOLERANCE, torch.finfo(dtype).eps)


def recognise(table: Tensor) -> EvenGrid | None:
    """The evenly spaced grid that a table's sinusoids encode, or None where it is another table.

    Args:
        table: (side, side, width), in the type that it was stored in.
    """
    side, width = table.shape[0], table.shape[2]
    if width % 4:
        return None
    columns = places(table[0, :, : width // 2].double())
    index = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    step = (index @ columns / (index @ index)).item() if side > 1 else 1.0
    even = EvenGrid(side=side, origin=columns.mean().item() - step * (side - 1) / 2, step=step)
    settings = even.as_settings()
    tables = [even.table(width), *([settings.table(width)] if settings else [])]
    return even if any(_close(each, table) for each in tables) else None


def settings_of(table: Tensor) -> PositionGrid | None:
    """The position settings of a model that give a table, or None where it has to be kept as a table.

    Args:
        table: (side, side, width), in the type that it was stored in.
    """
    grid = recognise(table)
    settings = grid.as_settings() if grid else None
    return settings if settings and _close(settings.table(table.shape[2]), table) else None


def largest_difference(exact: Tensor, stored: Tensor) -> float:
    """How far a table is from sinusoids.

    Args:
        exact: the sinusoids, float32.
        stored: the table.
    """
    return (exact - stored.float()).abs().max().item()


def _close(exact: Tensor, stored: Tensor) -> bool:
    return largest_difference(exact, stored) <= tolerance(stored.dtype)


def places(line: Tensor) -> Tensor:
    """The place that each row of sinusoids encodes, from the slowest one to the fastest, which is the most exact.

    Args:
        line: (N, 2 K) as [sin(p w_k) | cos(p w_k)] with w_k = 10000^(-k / K), float64.

    Returns:
        (N,) p, right where |p| is below pi 10000^(1 - 1/K).
    """
    count = line.shape[1] // 2
    rates = 10000.0 ** (-torch.arange(count, dtype=torch.float64) / count)
    phases = torch.atan2(line[:, :count], line[:, count:])
    found = torch.zeros(len(line), dtype=torch.float64)
    for k in reversed(range(count)):
        # A slow sinusoid's place says in which period of the next, faster one it lies.
        turns = torch.round((found * rates[k] - phases[:, k]) / (2 * math.pi)) if k < count - 1 else 0
        found = (phases[:, k] + 2 * math.pi * turns) / rates[k]
    return found
