"""The order in which the samples of a dataset are seen: a function of seed and position, with nothing to remember.

An epoch lays the shards in a row in an order of its own and cuts the row into lanes of equal length. Positions go
through the lanes in turns, so that neighbours in a batch come from far apart; in each lane one window after another is
read, in an order of its own. Readers thus stay in as many places as there are lanes, and R processes that take every
R-th position keep to lanes of their own where R divides their number. A dataset that is smaller than all windows
together is one window: any order of all samples is possible then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.sources.base import Source

Integers = NDArray[np.int64]
_Words = NDArray[np.uint64]

_ROUNDS = 8


class LaneOrder:
    """The samples of S shards in a new order each epoch.

    Position p lies in epoch p // N for N samples; each epoch has every sample once.

    Args:
        counts: (S,) samples of each shard.
        seed: names the order.
        lanes: places to read at in turns.
        window: neighbouring samples that may come in any order.
    """

    def __init__(self, *, counts: Sequence[int] | Integers, seed: int, lanes: int, window: int) -> None:
        self._counts = np.asarray(counts, dtype=np.int64)
        self.total = int(self._counts.sum())
        """N, samples of an epoch."""
        self.seed = seed
        self.lanes, self.window = (1, max(self.total, 1)) if self.total <= lanes * window else (lanes, window)
        self._layouts: dict[int, _Layout] = {}

    def places(self, positions: Integers) -> tuple[Integers, Integers]:
        """Shard and place in it of each position.

        Args:
            positions: (B,) from 0, through all epochs.
        """
        shards, places = np.empty_like(positions), np.empty_like(positions)
        epochs = positions // self.total
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            row, layout = self._in_row(positions[here] % self.total, epoch), self._layout(epoch)
            at = np.searchsorted(layout.ends, row, side="right")
            shards[here], places[here] = layout.shards[at], row - layout.starts[at]
        return shards, places

    def stand_in(self, position: int, attempt: int) -> int:
        """The position whose sample is taken where that of another is damaged: any of the same epoch.

        Args:
            position: whose sample is damaged.
            attempt: 0, and more where that one is damaged too.
        """
        words = np.array([self.seed, position, attempt], dtype=np.uint64)
        drawn = _mix(_mix(_mix(words[:1]) + words[1:2]) + words[2:])
        return position - position % self.total + int(drawn[0] % np.uint64(self.total))

    def fingerprint(self) -> str:
        """Short hash of all that the order depends on."""
        told = np.array([self.seed, self.lanes, self.window, *self._counts.tolist()], dtype="<i8")
        return hashlib.sha256(told.tobytes()).hexdigest()[:16]

    def _in_row(self, positions: Integers, epoch: int) -> Integers:
        """Where positions of one epoch lie in its row of all samples."""
        lane, step = positions % self.lanes, positions // self.lanes
        start, length = _part(lane, np.int64(self.total), np.int64(self.lanes))
        windows = -(-length // self.window)
        # The inverse of `_part`: which window a step lies in.
        small, larger = length // windows, length % windows
        edge = larger * (small + 1)
        which = np.where(step < edge, step // (small + 1), larger + (step - edge) // np.maximum(small, 1))
        first, size = _part(which, length, windows)
        keys = np.array([self.seed, epoch], dtype=np.uint64)
        key = _mix(_mix(_mix(_mix(keys[:1]) + keys[1:]) + lane.astype(np.uint64)) + which.astype(np.uint64))
        return start + first + shuffled(step - first, size, key)

    def _layout(self, epoch: int) -> _Layout:
        if epoch not in self._layouts:
            if len(self._layouts) > 1:
                self._layouts.pop(min(self._layouts))
            key = np.array([self.seed, epoch], dtype=np.uint64)
            shards = np.random.Generator(np.random.Philox(key=key)).permutation(len(self._counts))
            ends = np.cumsum(self._counts[shards])
            self._layouts[epoch] = _Layout(shards=shards, starts=ends - self._counts[shards], ends=ends)
        return self._layouts[epoch]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The shards of an epoch in its order, and where each begins and ends in the row; each (S,)."""

    shards: Integers
    starts: Integers
    ends: Integers


def order_of(source: Source, seed: int, lanes: int | None = None, window: int | None = None) -> LaneOrder:
    """An order over the samples of a source.

    Args:
        source: what is read.
        seed: names the order.
        lanes: places to read at in turns; by default what suits the source.
        window: neighbouring samples that may come in any order; by default what suits the source.
    """
    return LaneOrder(
        counts=source.counts(),
        seed=seed,
        lanes=source.locality.lanes if lanes is None else lanes,
        window=source.locality.window if window is None else window,
    )


def shuffled(index: Integers, size: Integers, key: _Words) -> Integers:
    """A pseudo-random permutation of the numbers below a size, one number at a time.

    A Feistel network over the next power of four, walked until it is back below the size (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains").

    Args:
        index: (B,) what to permute, each below its size.
        size: (B,) of its domain.
        key: (B,) of its permutation.
    """
    half = np.ones_like(key)
    while (short := (np.uint64(1) << (np.uint64(2) * half)) < size.astype(np.uint64)).any():
        half += short
    mask = (np.uint64(1) << half) - np.uint64(1)
    value = index.astype(np.uint64)
    walking = np.arange(len(value))
    while len(walking):
        value[walking] = _feistel(value[walking], half[walking], mask[walking], key[walking])
        walking = walking[value[walking] >= size[walking].astype(np.uint64)]
    return value.astype(np.int64)


def _feistel(value: _Words, half: _Words, mask: _Words, key: _Words) -> _Words:
    left, right = value >> half, value & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_mix(right + _mix(key + np.uint64(turn))) & mask)
    return left << half | right


def _mix(words: _Words) -> _Words:
    """A bijection of 64-bit words that spreads every bit: the finaliser of SplitMix64 (Steele et al. 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def _part(number: Integers, total: Integers | np.int64, parts: Integers | np.int64) -> tuple[Integers, Integers]:
    """Start and length of one of several parts of a row, as equal as they can be, the longer ones first."""
    small, larger = total // parts, total % parts
    return number * small + np.minimum(number, larger), small + (number < larger)
