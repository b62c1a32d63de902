"""What every source of images is: shards whose samples have numbers, each readable by itself."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.samples import RawSample, Skipped

Item = RawSample | Skipped
Counts = NDArray[np.int64]

_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Locality:
    """How an order over the samples should run, so that reading stays cheap."""

    lanes: int
    """Places of the dataset that may be read at in turns."""
    window: int
    """Neighbouring samples that may be read in any order."""


class Source(ABC):
    """Samples in shards.

    A sample is named by two numbers: that of its shard, and its place in it, from 0. Places whose sample is damaged
    count too, and give a `Skipped`; so a shard's count never depends on what can be decoded. Sources may be pickled
    and used after a fork: files are opened where they are read.
    """

    spec: str
    """What it was opened from, for messages."""
    shards: tuple[str, ...]
    """Names of the shards, all different."""
    locality: Locality

    @abstractmethod
    def counts(self) -> Counts:
        """Places of each shard (S,). Makes an index the first time where the format has none."""

    @abstractmethod
    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples of any shards, together, which remote files answer faster.

        Args:
            wanted: shard and place of each. Those next to each other in a shard are best asked for in that order.

        Returns:
            One item for each, in the same order.
        """

    def names(self) -> tuple[str, ...]:
        """Fields that the first samples have, for messages; none where they are not known."""
        return ()

    def samples(self, shard: int, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        """The samples of one shard in their order.

        Args:
            shard: its number in `shards`.
            start: first place.
            stop: place to end before; the end of the shard if None.
        """
        end = self.count(shard) if stop is None else min(stop, self.count(shard))
        for first in range(start, end, _AT_ONCE):
            yield from self.fetch([(shard, place) for place in range(first, min(first + _AT_ONCE, end))])

    def count(self, shard: int) -> int:
        """Places of one shard."""
        return int(self.counts()[shard])

    def fingerprint(self) -> str:
        """Short hash of the shards' names and counts: what an order over the samples depends on."""
        digest = hashlib.sha256("\n".join(self.shards).encode())
        digest.update(self.counts().astype("<i8").tobytes())
        return digest.hexdigest()[:16]
