"""A source whose reader is killed in the middle, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from prx_scale.data.sources.base import Counts, Item, Source


class DyingSource(Source):
    """Another source; the process that reads a certain place of its first shard for the n-th time is killed.

    Args:
        source: all samples.
        place: that kills.
        times: n.
        marker: file that has a byte for each time.
    """

    def __init__(self, source: Source, place: int, times: int, marker: Path) -> None:
        self.spec, self.shards, self.locality = source.spec, source.shards, source.locality
        self._source, self._place, self._times, self._marker = source, place, times, marker
        marker.touch()

    def counts(self) -> Counts:
        """Places of each shard."""
        return self._source.counts()

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples, or die."""
        if (0, self._place) in wanted:
            with self._marker.open("ab") as file:
                file.write(b".")
            if self._marker.stat().st_size == self._times:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._source.fetch(wanted)
