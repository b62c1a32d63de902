"""Fixed sinusoids: of the time, of sizes in pixels, and of a patch's place on the grid."""

from __future__ import annotations

from dataclasses import dataclass

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
    return _cos_sin(TIME_SCALE * t, width)


def size_frequencies(size: Tensor, width: int) -> Tensor:
    """[cos(s w_k) | sin(s w_k)] of each size s, with the w_k of `time_frequencies`, one after another.

    As SDXL embeds the size and the crop of an image (Podell et al. 2023, section 2.2).

    Args:
        size: (B, S) sizes in pixels, float32.
        width: of one size, even.

    Returns:
        (B, S * width).
    """
    return _cos_sin(size, width).flatten(1)


def _cos_sin(x: Tensor, width: int) -> Tensor:
    half = width // 2
    rates = torch.exp(-torch.arange(half, device=x.device, dtype=torch.float32) * (9.210340371976184 / half))
    angles = x[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@dataclass(frozen=True, kw_only=True)
class PositionGrid:
    """The table of positions that images of any aspect ratio are cropped from, around its centre.

    Along each side, entry p of `side` is at (p - (side - image) / 2) * base / image: the centre crop, an image of
    `image` patches along each side, spans [0, base) whatever its resolution, and longer sides go on beyond it (Esser
    et al. 2024, section 5.3.2).
    """

    side: int
    """Patches along each side of the table, at least `image`."""
    image: int
    """Patches along one side of a square image at the resolution trained on."""
    base: float
    """Patches along one side at which neighbours are 1 apart."""

    def coordinates(self) -> Tensor:
        """(side,) places along one side, float64."""
        places = torch.arange(self.side, dtype=torch.float64) - (self.side - self.image) / 2
        return places * (self.base / self.image)

    def table(self, width: int) -> Tensor:
        """(side, side, width) sin-cos positions, float32.

        Args:
            width: divisible by 4.
        """
        places = self.coordinates()
        return sincos_positions(places, places, width)


def sincos_positions(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """2-D sin-cos positions: the first half encodes the column, the second the row, each as [sin | cos].

    w_k = 10000^(-k / (width/4)), as in DiT and SD3.

    Args:
        rows: (R,) places along the height, float64.
        columns: (C,) places along the width, float64.
        width: divisible by 4.

    Returns:
        (R, C, width), float32.
    """
    quarter = width // 4
    rates = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def line(places: Tensor) -> Tensor:
        angles = places[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    column = line(columns)[None].expand(len(rows), -1, -1)
    row = line(rows)[:, None].expand(-1, len(columns), -1)
    return torch.cat([column, row], dim=-1).float()


def centre_crop(table: Tensor, rows: int, columns: int) -> Tensor:
    """The positions of an image: the centre of the table, row by row.

    Args:
        table: (R, C, D).
        rows: patches along the height, at most R.
        columns: patches along the width, at most C.

    Returns:
        (rows * columns, D).

    Raises:
        ValueError: the image is larger than the table.
    """
    if rows > table.shape[0] or columns > table.shape[1]:
        raise ValueError(
            f"an image of {rows} x {columns} patches does not fit the table of {table.shape[0]} x {table.shape[1]} "
            "positions; a larger [model] position_grid would hold it"
        )
    top, left = (table.shape[0] - rows) // 2, (table.shape[1] - columns) // 2
    return table[top : top + rows, left : left + columns].flatten(0, 1)
