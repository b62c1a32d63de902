"""Which samples each batch of a process has: a function of its number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.pools import Pool, PooledBatches
from prx_scale.data.shapes.hashing import mix
from prx_scale.errors import InputError

Numbers = NDArray[np.int64]

_DRAWN = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """What decides which samples a process is given; goes to other processes in a pickle.

    A place is a sample's number in training: places s B to (s + 1) B - 1 are the batch of step s over all processes. Of
    R processes with micro-batches of b, process r has places k R b + r b to k R b + (r + 1) b - 1 in its k-th.
    """

    assigned: NDArray[np.int16]
    """(N,) bucket of each sample, negative where it is left out."""
    image_size: int
    kinds: int
    """Of buckets."""
    batch: int
    """B, samples of a step."""
    seed: int
    """Of the order."""
    stage: int = 0
    starts: Numbers | None = None
    """First samples of the blocks that are shuffled; see `ShuffledOrder`."""
    micro_batch: int = 0
    """b; 0 is the process's whole part of a step."""
    rank: int = 0
    world: int = 1

    @property
    def size(self) -> int:
        """b."""
        return self.micro_batch or self.batch // self.world

    def first(self, seen: int) -> int:
        """The micro-batch that comes next.

        Args:
            seen: samples that all processes have seen.
        """
        return seen // (self.size * self.world)

    def seen(self, item: int) -> int:
        """Samples that all processes have seen before a micro-batch.

        Args:
            item: its number.
        """
        return item * self.size * self.world

    def check(self) -> None:
        """Refuse sizes that do not make up a step.

        Raises:
            InputError: says which.
        """
        if self.size < 1 or self.batch % (self.size * self.world):
            raise InputError(
                f"a batch of {self.batch} does not divide among {self.world} processes in micro-batches of {self.size}"
            )
        if not (self.assigned >= 0).any():
            raise InputError(f"no sample has a bucket at {self.image_size} pixels")


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """A micro-batch that is to be made."""

    item: int
    """Its number."""
    bucket: int
    numbers: Numbers
    """(b,) of the samples in the data."""
    places: Numbers
    """(b,) in training."""


class Planner:
    """Names the samples of micro-batches."""

    def __init__(self, schedule: Schedule) -> None:
        """Lay out the order.

        Args:
            schedule: what decides it.

        Raises:
            InputError: sizes that do not make up a step, or no samples.
        """
        schedule.check()
        self.schedule = schedule
        pool = Pool(assigned=schedule.assigned, starts=schedule.starts)
        self._batches = PooledBatches(
            [pool], schedule.kinds, seed=schedule.seed, order=schedule.stage, batch=schedule.batch
        )

    def wanted(self, item: int) -> Wanted:
        """The samples of a micro-batch.

        Args:
            item: its number.
        """
        schedule = self.schedule
        start = schedule.seen(item) + schedule.rank * schedule.size
        places = np.arange(start, start + schedule.size, dtype=np.int64)
        batch = self._batches.at(start // schedule.batch)
        return Wanted(item=item, bucket=batch.bucket, numbers=batch.numbers[places % schedule.batch], places=places)

    def stand_in(self, place: int, bucket: int, attempt: int) -> int:
        """A sample of the same bucket in the place of one that cannot be used, the same after every restart.

        Args:
            place: in training.
            bucket: that it must be of.
            attempt: 0, and more where that one cannot be used either.
        """
        assigned = self.schedule.assigned
        words = mix(np.array([place], dtype=np.uint64)) ^ mix(np.arange(_DRAWN, dtype=np.uint64))
        drawn = (mix(words) % np.uint64(len(assigned))).astype(np.int64)
        found = drawn[assigned[drawn] == bucket]
        if attempt < len(found):
            return int(found[attempt])
        # So few that none was drawn.
        found = np.flatnonzero(assigned == bucket)
        return int(found[(place + attempt) % len(found)])
