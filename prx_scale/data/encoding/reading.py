"""Samples by number, read and decoded ahead by threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.sources.base import Item, Source

Numbers = NDArray[np.int64]
T = TypeVar("T")
_Submit = Callable[[Numbers], Future[list[Item]]]

_READ_AT_ONCE = 32
_AHEAD = 2
"""Reads that are under way or done while samples of the one before are decoded."""


class Numbered:
    """A source whose samples are named by one number: through the shards, each shard's places in order."""

    def __init__(self, source: Source) -> None:
        """Number the samples of a source.

        Args:
            source: makes its index now, if it has none.
        """
        self.source = source
        self.starts: Numbers = np.concatenate([[0], np.cumsum(source.counts())]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def places(self, numbers: Numbers) -> list[tuple[int, int]]:
        """Shard and place of each sample.

        Args:
            numbers: of the samples.
        """
        shards = np.searchsorted(self.starts, numbers, side="right") - 1
        return list(zip(shards.tolist(), (numbers - self.starts[shards]).tolist(), strict=True))

    def fetch(self, numbers: Numbers) -> list[Item]:
        """Read samples.

        Args:
            numbers: of the samples.
        """
        return self.source.fetch(self.places(numbers))


def prepared(
    data: Numbered, numbers: Numbers, prepare: Callable[[int, RawSample], T | Skipped], threads: int
) -> Iterator[tuple[int, T | Skipped]]:
    """Samples as they are made ready, in the order of their numbers' list.

    One thread reads, for sources are for one thread, and others decode, which Pillow and torch do without the
    interpreter's lock. What is ahead is bounded.

    Args:
        data: where they are.
        numbers: of the samples.
        prepare: makes one ready, given its number.
        threads: that decode.
    """
    groups = [numbers[start : start + _READ_AT_ONCE] for start in range(0, len(numbers), _READ_AT_ONCE)]
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads) as decoders:
        reads = _ahead(groups, lambda group: reader.submit(data.fetch, group), _AHEAD)
        waiting: deque[tuple[int, Future[T | Skipped]]] = deque()
        try:
            for group, read in zip(groups, reads, strict=True):
                for number, item in zip(group.tolist(), read.result(), strict=True):
                    waiting.append((number, decoders.submit(_prepared, prepare, number, item)))
                    while len(waiting) > _READ_AT_ONCE + 2 * threads:
                        yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            for _, future in waiting:
                future.cancel()


def _ahead(groups: Sequence[Numbers], submit: _Submit, count: int) -> Iterator[Future[list[Item]]]:
    pending: deque[Future[list[Item]]] = deque()
    for group in groups:
        pending.append(submit(group))
        if len(pending) > count:
            yield pending.popleft()
    yield from pending


def _next(waiting: deque[tuple[int, Future[T]]]) -> tuple[int, T]:
    number, future = waiting.popleft()
    return number, future.result()


def _prepared(prepare: Callable[[int, RawSample], T | Skipped], number: int, item: Item) -> T | Skipped:
    return item if isinstance(item, Skipped) else prepare(number, item)
