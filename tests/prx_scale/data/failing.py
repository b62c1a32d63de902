"""A source that fails after a while."""

from __future__ import annotations

from collections.abc import Sequence

from prx_scale.data.sources.base import Counts, Item, Source


class FailingSource(Source):
    """Another source; after some reads it raises what nobody expects.

    Args:
        source: all samples.
        after: reads that go well.
    """

    def __init__(self, source: Source, after: int) -> None:
        self.spec, self.shards, self.locality = source.spec, source.shards, source.locality
        self._source, self._left = source, after

    def counts(self) -> Counts:
        """Places of each shard."""
        return self._source.counts()

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples, or fail."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("the disk is gone")
        return self._source.fetch(wanted)
