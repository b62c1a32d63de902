"""Which samples each micro-batch of a process has: a function of the run and its number alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.onthefly.microbatches import MicroBatches
from prx_scale.data.pools import Pool, PooledBatches
from prx_scale.data.shapes.hashing import mix
from prx_scale.data.trained import check_any
from prx_scale.errors import InputError
from prx_scale.stages import alone, name_of, sources_of
from prx_scale.stagetables import Source
from prx_scale.storesizes import buckets_of
from prx_scale.turns import Turns

Numbers = NDArray[np.int64]
Buckets = NDArray[np.int16]

_DRAWN = 4096
_ORDERS = 3
"""Orders that are laid out at a time: a stage's own, and what it replays."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """N samples of one source, as far as they are trained on."""

    source: Source | None
    """None is `[data]`."""
    assigned: Mapping[int, Buckets]
    """By image size that it is trained on at, (N,) bucket of each sample, negative where it is left out."""
    weights: NDArray[np.float32] | None
    """(N,) how often each comes in an epoch; None is once."""
    starts: Numbers
    """First samples of the blocks that are shuffled; see `ShuffledOrder`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """What decides which samples a process is given; goes to other processes in a pickle.

    A place is a sample's number in training: of the samples that come after those seen, process r of R has the
    micro-batch of b from place seen + r b on.
    """

    run: RunConfig
    materials: tuple[Material, ...]
    """Of all sources, that of `[data]` first."""
    heldout: Numbers
    """Samples of `[data]` that the run is validated on."""
    heldout_buckets: Buckets
    """(N,) bucket of each sample that is held out, at [data] image_size; negative for others."""
    rank: int = 0
    world: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """A micro-batch that is to be made."""

    item: int
    """Its number."""
    image_size: int
    bucket: int
    materials: Numbers
    """(b,) which of the schedule's materials each sample is of."""
    numbers: Numbers
    """(b,) of the samples there."""
    places: Numbers
    """(b,) in training; of held-out samples, their places among those."""
    heldout: bool = False


class Planner:
    """Names the samples of micro-batches."""

    def __init__(self, schedule: Schedule) -> None:
        """Lay out the order.

        Args:
            schedule: what decides it.

        Raises:
            InputError: sizes that do not make up a step, or no samples.
        """
        self.schedule, self.turns = schedule, Turns(schedule.run)
        self.micro_batches = MicroBatches(schedule.run, schedule.world)
        for material in schedule.materials:
            for size, assigned in material.assigned.items():
                check_any(assigned, alone(schedule.run, material.source), size)
        self._numbers = {name: number for number, name in enumerate(sources_of(schedule.run))}
        self._order = lru_cache(maxsize=_ORDERS)(self._laid_out)

    def wanted(self, item: int) -> Wanted:
        """The samples of a micro-batch.

        Args:
            item: its number.
        """
        seen, size = self.micro_batches.seen(item), self.micro_batches.size(item)
        turn = self.turns.after(seen)
        start = seen + self.schedule.rank * size
        batch = self._order(turn.order, turn.run.data.image_size, turn.run.training.batch, turn.data).at(turn.place)
        rows = slice(start - turn.first, start - turn.first + size)
        return Wanted(
            item=item,
            image_size=turn.run.data.image_size,
            bucket=batch.bucket,
            materials=np.array(self._of(turn.data), dtype=np.int64)[batch.pools[rows]],
            numbers=batch.numbers[rows],
            places=np.arange(start, start + size, dtype=np.int64),
        )

    def heldout(self) -> list[Wanted]:
        """The held-out samples, those of each bucket in micro-batches of the first stage's size at the most."""
        schedule, size = self.schedule, self.micro_batches.sizes[0]
        buckets = schedule.heldout_buckets[schedule.heldout]
        found: list[Wanted] = []
        for bucket in np.unique(buckets).tolist():
            places = np.flatnonzero(buckets == bucket)
            for part in np.split(places, range(size, len(places), size)):
                found.append(
                    Wanted(
                        item=len(found),
                        image_size=schedule.run.data.image_size,
                        bucket=bucket,
                        materials=np.zeros(len(part), dtype=np.int64),
                        numbers=schedule.heldout[part],
                        places=part,
                        heldout=True,
                    )
                )
        return found

    def largest(self) -> list[tuple[int, int]]:
        """Samples and image size of every kind of micro-batch."""
        stages, sizes = self.turns.stages, self.micro_batches.sizes
        found = {(sizes[0], self.schedule.run.data.image_size)}
        for stage, size in zip(stages, sizes, strict=True):
            found.add((size, stage.image_size))
            if stage.replay is not None:
                found.add((size, stages[stage.replay].image_size))
        return sorted(found)

    def stand_in(self, wanted: Wanted, row: int, attempt: int) -> int:
        """A sample of the same source and bucket for one that cannot be used, the same after every restart.

        A held-out one is stood in for by another that is held out, and used for nothing else where there are enough.

        Args:
            wanted: the micro-batch.
            row: of the sample in it.
            attempt: 0, and more where that one cannot be used either.

        Raises:
            InputError: all other held-out samples of its bucket are validated on.
        """
        place = int(wanted.places[row])
        if wanted.heldout:
            return self._other_heldout(wanted, int(wanted.numbers[row]), attempt)
        assigned = self.schedule.materials[int(wanted.materials[row])].assigned[wanted.image_size]
        words = mix(np.array([place], dtype=np.uint64)) ^ mix(np.arange(_DRAWN, dtype=np.uint64))
        drawn = (mix(words) % np.uint64(len(assigned))).astype(np.int64)
        found = drawn[assigned[drawn] == wanted.bucket]
        if attempt < len(found):
            return int(found[attempt])
        # So few that none was drawn.
        found = np.flatnonzero(assigned == wanted.bucket)
        return int(found[(place + attempt) % len(found)])

    def _other_heldout(self, wanted: Wanted, number: int, attempt: int) -> int:
        schedule = self.schedule
        there = np.flatnonzero(schedule.heldout_buckets == wanted.bucket)
        found = there[~np.isin(there, schedule.heldout)]
        if not len(found):
            raise InputError(
                f"{schedule.run.data.path}: held-out sample {number} cannot be used, and all others of its shape are "
                'validated on; raise [data] heldout, or look at all images beforehand: [encoding] survey = "images"'
            )
        return int(found[(number + attempt) % len(found)])

    def _of(self, sources: Sequence[Source]) -> list[int]:
        """Numbers of the materials that a stage is trained on; that of `[data]` where it names no source."""
        return [self._numbers[name_of(source)] for source in sources] or [0]

    def _laid_out(self, order: int, image_size: int, batch: int, sources: tuple[Source, ...]) -> PooledBatches:
        run, weights = self.schedule.run, [source.weight for source in sources] or [1.0]
        materials = [self.schedule.materials[number] for number in self._of(sources)]
        pools = [
            Pool(assigned=each.assigned[image_size], starts=each.starts, weights=each.weights, weight=weight)
            for each, weight in zip(materials, weights, strict=True)
        ]
        return PooledBatches(pools, len(buckets_of(run.data)[image_size]), seed=run.data.seed, order=order, batch=batch)
