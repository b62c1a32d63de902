"""A perceptual hash of 64 bits: images that look alike have hashes that differ in few bits."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prx_scale.data.decode import Pixels

SIDE = 32
"""Pixels along a side of what is transformed."""
KEPT = 8
"""Lowest frequencies in each direction that are kept."""
ENOUGH = 8 * SIDE
"""Shorter side of an image from which the hash is made as well as from a larger one. At 2 x 32, one copy in five of
real photographs gets another hash than the original; at this, one in forty, as from whole images."""
_NOISE = 6
"""Decimals of a coefficient that are not rounding errors; a flat image has no others."""

Hashes = NDArray[np.uint64]


def perceptual_hash(pixels: Pixels) -> int:
    """Hash of an image by its lowest frequencies.

    Grey, scaled to 32 x 32 with a Lanczos filter whatever its shape, X; C = D X D^T with the matrix D of the DCT-II;
    a bit for each of the lowest 8 x 8 coefficients, row by row, the first one the highest: whether it is above their
    median. (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1, in the
    form of the imagehash package, with the same bits.)

    Args:
        pixels: (H, W, 3) RGB.
    """
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    low = _lowest()
    coefficients = np.round(low @ np.asarray(grey, dtype=np.float64) @ low.T, _NOISE)
    bits = coefficients > np.median(coefficients)
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def distance(one: Hashes, other: Hashes) -> NDArray[np.uint8]:
    """Bits in which hashes differ.

    Args:
        one: hashes of any shape.
        other: as many, or one.
    """
    return np.bitwise_count(one ^ other)


@cache
def _lowest() -> NDArray[np.float64]:
    """(8, 32) the first rows of D: D[k, n] = 2 cos(pi k (2 n + 1) / 64)."""
    order, place = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    return 2 * np.cos(np.pi * order * (2 * place + 1) / (2 * SIDE))
