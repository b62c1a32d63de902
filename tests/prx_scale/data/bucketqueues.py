"""Batches of one bucket each, from a stream whose buckets only show as it is read.

The same rule as `prx_scale.data.batchplan`: a batch is due when its last sample arrives. So the same order gives the
same batches either way, and every rank that hears of the same samples has them. A rank needs to know the bucket of
every sample, which the head of an image file tells, but fetches and decodes only its own part of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from prx_scale.data.batchplan import Batch


class BucketQueues:
    """Numbers of samples that wait in their buckets.

    They are bounded by themselves: at most batch - 1 wait in a bucket, so `kinds` x (batch - 1) numbers in all. The
    state has the position in the stream and these numbers, and does not depend on the number of ranks.
    """

    def __init__(self, kinds: int, batch: int) -> None:
        """Empty queues.

        Args:
            kinds: how many buckets there are.
            batch: samples of a step, over all ranks.
        """
        self.batch = batch
        self.position = 0
        """Samples of the stream that have come, those left out included."""
        self._waiting: list[list[int]] = [[] for _ in range(kinds)]

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        return sum(map(len, self._waiting))

    def push(self, sample: int, bucket: int | None) -> Batch | None:
        """Take in the next sample of the stream.

        Args:
            sample: its number.
            bucket: None where it turned out to be unusable.

        Returns:
            The batch that it completes, if it does.
        """
        self.position += 1
        if bucket is None:
            return None
        queue = self._waiting[bucket]
        queue.append(sample)
        if len(queue) < self.batch:
            return None
        self._waiting[bucket] = []
        return Batch(bucket=bucket, samples=np.array(queue, dtype=np.int64))

    def batches(self, stream: Iterable[tuple[int, int | None]]) -> Iterator[Batch]:
        """Batches from pairs of sample and bucket, as they become due.

        Args:
            stream: goes on at `position`.
        """
        for sample, bucket in stream:
            batch = self.push(sample, bucket)
            if batch is not None:
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"position": self.position, "waiting": [list(queue) for queue in self._waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped.

        Args:
            state: of queues with as many buckets and the same batch.
        """
        self.position = state["position"]
        self._waiting = [list(queue) for queue in state["waiting"]]
