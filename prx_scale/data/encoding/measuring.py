"""How long a sample takes and how large it becomes, by a first batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.encoding.oneshard import Work, encode_shard
from prx_scale.data.encoding.reading import Numbered

_SAMPLES = 32
_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one process and one sample that is not filtered out."""

    samples: int
    """That were measured."""
    seconds: float
    """To read, decode and encode one."""
    bytes: float
    """Of one, with captions of the length that they have."""


def measure(work: Work, first: int = 0) -> Measured:
    """Encode a few samples twice and time the second time; nothing is written.

    Where the first time takes long, it counts: what is loaded and chosen once is a small part of it then.

    Args:
        work: what shards are made of.
        first: number of the first sample.
    """
    few, count = _few(work, first)
    start = time.perf_counter()
    builder = encode_shard(few, 0)
    seconds = time.perf_counter() - start
    if seconds < _SECONDS:
        start = time.perf_counter()
        builder = encode_shard(few, 0)
        seconds = time.perf_counter() - start
    return Measured(samples=count, seconds=seconds / count, bytes=builder.bytes / count)


def _few(work: Work, first: int) -> tuple[Work, int]:
    """The same work on samples that a filter kept, and how many they are: from the first on, if there are any."""
    numbers = np.arange(first, len(work.data), dtype=np.int64)
    if work.keep is not None:
        kept = np.flatnonzero(work.keep)
        numbers = later if len(later := kept[kept >= first]) else kept
    numbers = numbers[:_SAMPLES]
    count = max(len(numbers), 1)
    recipe = replace(work.recipe, data=replace(work.recipe.data, samples=count), shard_size=count)
    return replace(work, recipe=recipe, data=_Chosen(work.data, numbers), keep=None), count


class _Chosen(Numbered):
    """Some samples, numbered anew."""

    def __init__(self, data: Numbered, chosen: NDArray[np.int64]) -> None:
        self.source, self.starts, self._chosen = data.source, data.starts, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def places(self, numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        return super().places(self._chosen[numbers])
