"""The order in which samples are seen, without end and by position: every rank can ask for any part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.hashing import mix
from prx_scale.diffusion.draws import Purpose

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
BLOCK = 1 << 20
"""Samples that are shuffled among themselves, where nothing else is said."""
PRECISION = 1 << 20
"""Shares of a mix are whole multiples of one over this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Consecutive samples of an order: their numbers (n,) and their buckets (n,)."""

    samples: Numbers
    buckets: Numbers


class Order(Protocol):
    """An endless order of samples, each of a known bucket."""

    @property
    def kinds(self) -> int:
        """How many buckets there are."""
        ...

    def before(self, position: int) -> Numbers:
        """(kinds,) samples of each bucket among the first `position`."""
        ...

    def stretch(self, start: int, stop: int, only: Mask | None = None) -> Stretch:
        """The samples at positions start to stop - 1; with `only` (kinds,) those of the marked buckets."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A part of an epoch: which block, where it begins, and how long it is."""

    epoch: int
    block: int
    start: int
    length: int


class ShuffledOrder:
    """Every sample once an epoch, epoch after epoch, each in an order of its own.

    Blocks of consecutive samples, such as groups of shards, come in random order, and the samples of a block in random
    order among themselves; so shards are read a block at a time, and memory holds the order of one. Random is: sorted
    by a hash of seed, epoch and number. The order of two samples of a block thus does not depend on which others there
    are: leaving some out changes nothing about the rest.
    """

    def __init__(
        self, buckets: NDArray[np.integer], kinds: int, *, seed: int, stage: int = 0, starts: Numbers | None = None
    ) -> None:
        """An order of the samples 0 .. N - 1.

        Args:
            buckets: (N,) bucket of each sample, negative where a sample is left out; may be memory-mapped.
            kinds: how many buckets there are.
            seed: of the order, below 2^55.
            stage: another order for each.
            starts: first sample of each block, ascending from 0; by default every 2^20.

        Raises:
            ValueError: no sample at all.
        """
        self.kinds = kinds
        self._buckets = buckets
        if starts is None:
            starts = np.arange(0, max(len(buckets), 1), BLOCK)
        self._bounds = np.append(starts, len(buckets)).astype(np.int64)
        self._counts = np.stack([self._count(block) for block in range(len(starts))])
        self._stream = mix(mix(np.array([(seed << 8) | Purpose.ORDER], dtype=np.uint64)) ^ np.uint64(stage))
        if not self._counts.any():
            raise ValueError("an order needs at least one sample that belongs to a bucket")
        self._blocks_of = lru_cache(maxsize=2)(self._shuffled_blocks)
        self._block = lru_cache(maxsize=2)(self._shuffled)

    @property
    def length(self) -> int:
        """Samples in an epoch."""
        return int(self._counts.sum())

    def before(self, position: int) -> Numbers:
        """(kinds,) samples of each bucket among the first `position`."""
        epoch, rest = self._epoch_at(position)
        blocks, starts = self._blocks_of(epoch)
        whole = int(np.searchsorted(starts, rest, side="right")) - 1
        counts = self._before_epoch(epoch) + self._counts_in(epoch)[blocks[:whole]].sum(axis=0)
        if rest > starts[whole]:
            seen = self._block(epoch, int(blocks[whole]))[: rest - int(starts[whole])]
            counts = counts + np.bincount(self._buckets[seen], minlength=self.kinds)
        return counts

    def stretch(self, start: int, stop: int, only: Mask | None = None) -> Stretch:
        """The samples at positions start to stop - 1; with `only` (kinds,) those of the marked buckets."""
        parts = [np.empty(0, dtype=np.int64), *self._parts(start, stop, only)]
        samples = np.concatenate(parts)
        return Stretch(samples=samples, buckets=self._buckets[samples].astype(np.int64))

    def _parts(self, start: int, stop: int, only: Mask | None) -> Iterator[Numbers]:
        for place in self._places(start, stop):
            first, last = max(start - place.start, 0), min(stop - place.start, place.length)
            if only is None or last - first < place.length:
                samples = self._block(place.epoch, place.block)[first:last]
                yield samples if only is None else samples[only[self._buckets[samples]]]
            elif self._counts_in(place.epoch)[place.block, only].any():
                yield self._shuffled(place.epoch, place.block, only)

    def _places(self, start: int, stop: int) -> Iterator[_Place]:
        """The blocks that a stretch touches."""
        while start < stop:
            epoch, rest = self._epoch_at(start)
            blocks, starts = self._blocks_of(epoch)
            number = int(np.searchsorted(starts, rest, side="right")) - 1
            length = int(self._counts_in(epoch)[blocks[number]].sum())
            begin = start - rest + int(starts[number])
            yield _Place(epoch=epoch, block=int(blocks[number]), start=begin, length=length)
            start = begin + length

    def _epoch_at(self, position: int) -> tuple[int, int]:
        """The epoch of a position, and how far into it that is."""
        return divmod(position, self.length)

    def _before_epoch(self, epoch: int) -> Numbers:
        """(kinds,) samples of each bucket in all epochs before one."""
        return epoch * self._counts.sum(axis=0)

    def _counts_in(self, epoch: int) -> Numbers:
        """(blocks, kinds) samples of each block and bucket in an epoch."""
        return self._counts

    def _count(self, block: int) -> Numbers:
        inside = self._buckets[self._bounds[block] : self._bounds[block + 1]]
        return np.bincount(inside[inside >= 0], minlength=self.kinds).astype(np.int64)

    def _keys(self, epoch: int, numbers: Numbers, salt: int) -> NDArray[np.uint64]:
        return mix(mix(self._stream ^ mix(np.array([2 * epoch + salt], dtype=np.uint64))) ^ numbers.astype(np.uint64))

    def _shuffled_blocks(self, epoch: int) -> tuple[Numbers, Numbers]:
        """The blocks of an epoch that have samples, in their order, and at which place of the epoch each begins."""
        counts = self._counts_in(epoch)
        blocks = np.flatnonzero(counts.sum(axis=1))
        blocks = blocks[np.argsort(self._keys(epoch, blocks, 1))]
        sizes = counts[blocks].sum(axis=1)
        return blocks, np.cumsum(sizes) - sizes

    def _shuffled(self, epoch: int, block: int, only: Mask | None = None) -> Numbers:
        start = int(self._bounds[block])
        inside = self._buckets[start : int(self._bounds[block + 1])]
        taken = inside >= 0 if only is None else (inside >= 0) & only[inside]
        samples = start + np.flatnonzero(taken)
        return samples[np.argsort(self._keys(epoch, samples, 0))]


def block_starts(lengths: Sequence[int], least: int = BLOCK) -> Numbers:
    """Blocks of whole shards.

    Args:
        lengths: samples of each shard, in order.
        least: samples that a block has, but for the last.

    Returns:
        (blocks,) first sample of each.
    """
    starts, first, total = [0], 0, sum(lengths)
    for end in np.cumsum(lengths).tolist():
        if end - first >= least and end < total:
            starts.append(end)
            first = end
    return np.array(starts, dtype=np.int64)


class MixedOrder:
    """Several orders, dealt into one by fixed shares, rounded to a millionth.

    After n samples each has had its share of n to within one sample for each order before it, so a batch has samples of
    all of them. An order that is done with its epoch begins the next while others may still be in their first. Sample
    numbers are counted through: those of the second follow those of the first.
    """

    def __init__(self, orders: Sequence[Order], sizes: Sequence[int], weights: Sequence[float]) -> None:
        """A mix of orders over the same buckets.

        Args:
            orders: the parts.
            sizes: one more than the largest sample number of each.
            weights: their shares, in any unit; each above 0.
        """
        self.kinds = orders[0].kinds
        self._orders = tuple(orders)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rest = np.cumsum(np.asarray(weights, dtype=np.float64)[::-1])[::-1]
        self._shares = [max(round(PRECISION * weight / left), 1) for weight, left in zip(weights, rest, strict=True)]

    def source_of(self, samples: Numbers) -> Numbers:
        """Which part each sample belongs to; subtract its entry of `offsets` for the number there."""
        return np.searchsorted(self.offsets, samples, side="right") - 1

    def before(self, position: int) -> Numbers:
        """(kinds,) samples of each bucket among the first `position`."""
        taken = self._taken(np.array([position]))[:, 0].tolist()
        return np.sum([order.before(each) for order, each in zip(self._orders, taken, strict=True)], axis=0)

    def stretch(self, start: int, stop: int, only: Mask | None = None) -> Stretch:
        """The samples at positions start to stop - 1; with `only` (kinds,) those of the marked buckets."""
        taken = self._taken(np.arange(start, stop + 1))
        samples, buckets = np.empty(stop - start, dtype=np.int64), np.empty(stop - start, dtype=np.int64)
        for order, offset, counts in zip(self._orders, self.offsets, taken, strict=False):
            places = np.flatnonzero(np.diff(counts))
            part = order.stretch(int(counts[0]), int(counts[-1]))
            samples[places], buckets[places] = part.samples + offset, part.buckets
        if only is None:
            return Stretch(samples=samples, buckets=buckets)
        return Stretch(samples=samples[only[buckets]], buckets=buckets[only[buckets]])

    def _taken(self, positions: Numbers) -> Numbers:
        """(parts, n) how many of the samples before each position came from each part.

        The first part takes floor(p w) of p samples, the second its share of what the first leaves, and so on.
        """
        left, taken = positions, []
        for share in self._shares:
            taken.append(left * share // PRECISION)
            left = left - taken[-1]
        return np.stack(taken)
