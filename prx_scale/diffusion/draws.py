"""Random draws named by a seed, a purpose and an index, so that they do not depend on rank, order or restarts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Purpose(IntEnum):
    """What draws are for; draws for different purposes are independent."""

    TRAINING = 0
    VALIDATION = 1
    SAMPLING = 2
    ORDER = 3
    CAPTIONS = 4
    REPLAY = 5
    LATENTS = 6
    HELDOUT_LATENTS = 7
    HELDOUT = 8


@dataclass(frozen=True, kw_only=True)
class Draws:
    """For each of B indices: noise (B, ...) float32, one more normal (B,), one uniform (B,) and E more (B, E)."""

    noise: Floats32
    normal: Floats
    uniform: Floats
    more: Floats


def draw(seed: int, purpose: Purpose, indices: Indices, shape: tuple[int, ...], more: int = 0) -> Draws:
    """Draw for each index from its own counter-based generator (Philox 4x64, Salmon et al. 2011).

    Args:
        seed: of the run, the validation or the sampling.
        purpose: what for.
        indices: (B,) what each draw belongs to, not negative.
        shape: of one sample's noise.
        more: E, further uniform draws; the others do not depend on it.
    """
    size = int(np.prod(shape))
    noise = np.empty((len(indices), size), dtype=np.float32)
    normal, uniform, others = np.empty(len(indices)), np.empty(len(indices)), np.empty((len(indices), more))
    for row, index in enumerate(indices.tolist()):
        key = np.array([(seed << 8) | purpose, index], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        normal[row], uniform[row] = generator.standard_normal(), generator.random()
        generator.standard_normal(out=noise[row], dtype=np.float32)
        generator.random(out=others[row])
    return Draws(noise=noise.reshape(len(indices), *shape), normal=normal, uniform=uniform, more=others)
