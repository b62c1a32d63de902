"""Batches of one bucket each, from an order of samples whose buckets are known: any step without those before it.

Samples wait in their bucket, in the order in which they come; when the last of a batch comes, the batch is due. So all
ranks are in the same bucket at every step: one shape to compile, equal work everywhere, and a loss that is normalised
over equal numbers of elements. What waits at the end of an epoch, less than a batch in each bucket, goes into the first
batches of the next: no sample is dropped or doubled, and only what waits at the end of training is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prx_scale.data.orders import Numbers, Order, Stretch

WINDOW = 64
"""Batches' worth of positions that are dealt at a time."""
LOOKBACK = 1 << 21
"""Most positions that are searched at a time for what waits in rare buckets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Samples of one bucket."""

    bucket: int
    samples: Numbers
    """(B,) their numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    """Batches that are due within a window, in their order, and what still waits."""

    buckets: Numbers
    """(n,)"""
    samples: Numbers
    """(n, B)"""
    waiting: Stretch
    """In the order in which they came, within each bucket."""


def deal(waiting: Stretch, arriving: Stretch, batch: int) -> Dealt:
    """Deal samples into batches, each due when its last sample arrives.

    Args:
        waiting: from before, fewer than a batch of each bucket, those of one in the order in which they came.
        arriving: what comes next.
        batch: samples of a batch.
    """
    samples = np.concatenate([waiting.samples, arriving.samples])
    buckets = np.concatenate([waiting.buckets, arriving.buckets])
    by_bucket = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets)
    place = np.arange(len(buckets)) - np.repeat(np.cumsum(counts) - counts, counts)
    full = place < np.repeat(counts // batch * batch, counts)
    rows = by_bucket[full].reshape(-1, batch)
    rows = rows[np.argsort(rows[:, -1])]
    left = by_bucket[~full]
    return Dealt(
        buckets=buckets[rows[:, 0]],
        samples=samples[rows],
        waiting=Stretch(samples=samples[left], buckets=buckets[left]),
    )


class BatchPlan:
    """The batches of an order.

    Its state is the number of a step: the same steps have the same batches on any number of ranks, and after any
    restart. Going on is quick; a jump looks for what was waiting then, in the worst case through an epoch.
    """

    def __init__(self, order: Order, batch: int, window: int | None = None) -> None:
        """A plan.

        Args:
            order: the samples.
            batch: samples of a step, over all ranks.
            window: positions dealt at a time, by default 64 batches' worth; only speed and memory depend on it.
        """
        self.order, self.batch, self._window = order, batch, window or WINDOW * batch
        self._number, self._first = 0, 0
        self._dealt = self._deal(0, _NONE)

    def at(self, step: int) -> Batch:
        """The batch of a step.

        Args:
            step: from 0.
        """
        if step < self._first or step >= self._first + len(self._dealt.buckets) + self.order.kinds:
            self._jump(step)
        while step >= self._first + len(self._dealt.buckets):
            self._first += len(self._dealt.buckets)
            self._number += 1
            self._dealt = self._deal(self._number, self._dealt.waiting)
        row = step - self._first
        return Batch(bucket=int(self._dealt.buckets[row]), samples=self._dealt.samples[row])

    def batches(self, step: int = 0) -> Iterator[Batch]:
        """The batches from a step on, without end."""
        while True:
            yield self.at(step)
            step += 1

    def steps(self, position: int) -> int:
        """Batches that the first `position` samples of the order fill: those of an epoch, for its length."""
        return int((self.order.before(position) // self.batch).sum())

    def _deal(self, number: int, waiting: Stretch) -> Dealt:
        start = number * self._window
        return deal(waiting, self.order.stretch(start, start + self._window), self.batch)

    def _jump(self, step: int) -> None:
        # The first p samples fill at most p / batch batches, so the step is not due before this window.
        self._number = step * self.batch // self._window
        start = self._number * self._window
        self._first = self.steps(start)
        self._dealt = self._deal(self._number, self._waiting_at(start))

    def _waiting_at(self, position: int) -> Stretch:
        """What waits there: of each bucket, the latest that do not make up a batch."""
        missing = self.order.before(position) % self.batch
        parts: list[Stretch] = []
        reach = self._window
        while missing.any():
            start = max(position - reach, 0)
            found = self.order.stretch(start, position, missing > 0)
            latest = _last_of_each(found, missing)
            missing = missing - np.bincount(latest.buckets, minlength=len(missing))
            parts.insert(0, latest)
            position, reach = start, min(2 * reach, LOOKBACK)
        return Stretch(
            samples=np.concatenate([_NONE.samples, *(part.samples for part in parts)]),
            buckets=np.concatenate([_NONE.buckets, *(part.buckets for part in parts)]),
        )


_NONE = Stretch(samples=np.empty(0, dtype=np.int64), buckets=np.empty(0, dtype=np.int64))


def _last_of_each(stretch: Stretch, wanted: Numbers) -> Stretch:
    """The last samples of each bucket, at most as many as wanted, in their order."""
    by_bucket = np.argsort(stretch.buckets, kind="stable")
    counts = np.bincount(stretch.buckets, minlength=len(wanted))
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(by_bucket))
    kept = np.sort(by_bucket[from_end <= np.repeat(wanted, counts)])
    return Stretch(samples=stretch.samples[kept], buckets=stretch.buckets[kept])
