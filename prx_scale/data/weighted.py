"""An order in which each sample comes as often as its weight says."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.orders import Mask, Numbers, ShuffledOrder
from prx_scale.data.shapes.hashing import mix


class WeightedOrder(ShuffledOrder):
    """Every sample as often as its weight says: one of 2.4 comes two or three times an epoch, one of 0.5 every other.

    With w the weight and u a uniform number of the sample's own, it comes floor(w (e + 1) + u) - floor(w e + u) times
    in epoch e: after any number of epochs its share to within one. Where all weights are 1 the order is that of
    `ShuffledOrder`.
    """

    def __init__(
        self,
        buckets: NDArray[np.integer],
        weights: NDArray[np.floating],
        kinds: int,
        *,
        seed: int,
        stage: int = 0,
        starts: Numbers | None = None,
    ) -> None:
        """An order of the samples 0 .. N - 1.

        Args:
            buckets: (N,) bucket of each sample, negative where a sample is left out; may be memory-mapped.
            weights: (N,) not negative, 1 for once an epoch; may be memory-mapped.
            kinds: how many buckets there are.
            seed: of the order, below 2^55.
            stage: another order for each.
            starts: first sample of each block; see `ShuffledOrder`.

        Raises:
            ValueError: no sample that has a bucket and a weight.
        """
        super().__init__(buckets, kinds, seed=seed, stage=stage, starts=starts)
        self._weights = weights
        self._until = lru_cache(maxsize=4)(self._counted)
        self._mean = float(sum(self._inside(block)[1].sum() for block in range(len(self._bounds) - 1)))
        if not self._mean > 0:
            raise ValueError("an order needs at least one sample that has a bucket and a weight above 0")

    @property
    def length(self) -> int:
        """Samples in the first epoch; others have as many, to within chance."""
        return int(self._until(1).sum())

    def _epoch_at(self, position: int) -> tuple[int, int]:
        epoch = int(position / self._mean)
        while (begin := int(self._until(epoch).sum())) > position:
            epoch -= 1
        while (end := int(self._until(epoch + 1).sum())) <= position:
            epoch, begin = epoch + 1, end
        return epoch, position - begin

    def _before_epoch(self, epoch: int) -> Numbers:
        return self._until(epoch).sum(axis=0)

    def _counts_in(self, epoch: int) -> Numbers:
        return self._until(epoch + 1) - self._until(epoch)

    def _counted(self, epoch: int) -> Numbers:
        """(blocks, kinds) samples of each block and bucket in all epochs before one."""
        return np.stack([self._counted_in(block, epoch) for block in range(len(self._bounds) - 1)])

    def _counted_in(self, block: int, epoch: int) -> Numbers:
        samples, weights = self._inside(block)
        times = np.floor(weights * epoch + self._chance(samples))
        counts = np.bincount(self._buckets[samples], weights=times, minlength=self.kinds)
        return counts.astype(np.int64)

    def _inside(self, block: int) -> tuple[Numbers, NDArray[np.float64]]:
        """Samples of a block that have a bucket, and their weights."""
        start, stop = int(self._bounds[block]), int(self._bounds[block + 1])
        samples = start + np.flatnonzero(self._buckets[start:stop] >= 0)
        return samples, self._weights[samples].astype(np.float64)

    def _chance(self, samples: Numbers) -> NDArray[np.float64]:
        words = mix(mix(self._stream ^ np.uint64(1)) ^ samples.astype(np.uint64))
        # 32 bits, so that their sum with the number of an epoch is exact.
        return (words >> np.uint64(32)).astype(np.float64) * 2.0**-32

    def _shuffled(self, epoch: int, block: int, only: Mask | None = None) -> Numbers:
        samples, weights = self._inside(block)
        if only is not None:
            wanted = only[self._buckets[samples]]
            samples, weights = samples[wanted], weights[wanted]
        chance = self._chance(samples)
        times = (np.floor(weights * (epoch + 1) + chance) - np.floor(weights * epoch + chance)).astype(np.int64)
        copies = np.repeat(samples, times)
        nth = np.arange(len(copies)) - np.repeat(np.cumsum(times) - times, times)
        # The first copy has the place that the sample would have by itself.
        keys = self._keys(epoch, copies, 0)
        return copies[np.argsort(np.where(nth == 0, keys, mix(keys ^ nth.astype(np.uint64))))]
