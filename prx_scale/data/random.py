"""Normal noise in the sizes of real latents and text states: nothing to learn, all there is to compute and to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.framing import uncropped

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RandomBatch:
    """B samples: image (B, C, H, W), context (B, L, D), pooled (B, P) and size (B, 6)."""

    image: Floats
    context: Floats
    pooled: Floats
    size: NDArray[np.int32]
    mask: None = None
    """Every token counts."""


@dataclass(frozen=True, kw_only=True)
class RandomDataset:
    """Standard normal samples, each named by its index.

    Args:
        seed: of the stream, below 2^62.
        heldout: another stream, for validation.
        image: shape of one image or latent (C, H, W).
        downsampling: pixels along one side of one of its values.
        context: shape of its token states (L, D).
        pooled: width of its pooled state.
    """

    seed: int
    heldout: bool
    image: tuple[int, int, int]
    downsampling: int
    context: tuple[int, int]
    pooled: int

    def batch(self, indices: NDArray[np.int64]) -> RandomBatch:
        """The samples of the given indices.

        Args:
            indices: (B,) sample numbers. The same number gives the same sample on every rank and in every order.
        """
        sizes = (int(np.prod(self.image)), int(np.prod(self.context)), self.pooled)
        rows = np.stack([self._values(int(index), sum(sizes)) for index in indices])
        image, context, pooled = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
        height, width = (side * self.downsampling for side in self.image[1:])
        return RandomBatch(
            image=image.reshape(-1, *self.image),
            context=context.reshape(-1, *self.context),
            pooled=pooled,
            size=np.full((len(rows), 6), uncropped((height, width)), dtype=np.int32),
        )

    def _values(self, index: int, count: int) -> Floats:
        key = np.array([2 * self.seed + self.heldout, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).standard_normal(count, dtype=np.float32)
