"""Encoding a store from beginning to end, or a part of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from prx_scale.data.encoding.job import Encoding, Job, kept, remove_drafts
from prx_scale.data.encoding.measuring import Measured
from prx_scale.data.encoding.processes import Event, Failed, Made, Ready, Step, Stepper, Stopped, pool
from prx_scale.data.skips import SkipLog
from prx_scale.data.store.finishing import finish, forget, missing, read_recipe
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.records import ShardRecord, read_record
from prx_scale.errors import InputError
from prx_scale.stopping import StopRequest, listening


class Watcher(Protocol):
    """Is told how a launch gets on."""

    def begins(self, todo: Todo, measured: Measured) -> None:
        """Encoders are loaded, and it is known what is to be done; what this raises ends the launch."""
        ...

    def step(self, samples: int) -> None:
        """More samples are done."""
        ...

    def made(self, record: ShardRecord) -> None:
        """A shard is written."""
        ...

    def lost(self, failed: Failed) -> None:
        """A process has ended too early."""
        ...


@dataclass(frozen=True, kw_only=True)
class Todo:
    """What a launch has before it."""

    recipe: Recipe
    shards: tuple[int, ...]
    """That it is to make."""
    of: int
    """Shards of its part."""
    damaged: tuple[str, ...]
    """What was wrong with shards that were there."""
    samples: int
    """That a filter did not leave out, in those shards."""
    elsewhere: int
    """The same, in shards of other parts that are not there."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a launch ended."""

    made: int
    """Shards."""
    left: tuple[int, ...]
    """Shards of its part that are still missing."""
    finished: bool
    """All shards of the store are there, and its index."""
    failures: tuple[Failed, ...] = field(default=())


def encode(job: Job, watcher: Watcher, *, processes: int = 1, max_skipped: float = 0.05, verify: bool = False) -> Done:
    """Make what is missing of a part of a store, and finish the store if nothing is missing any more.

    Args:
        job: what is to be done.
        watcher: is told how it gets on.
        processes: that make shards; with one, this process does it.
        max_skipped: share of the samples that may be unusable.
        verify: also compare the hashes of files that are there.

    Raises:
        InputError: the store was begun otherwise, weights are missing, or too many samples are unusable.
        Stopped: a signal asked to end; shards that are written stay.
    """
    launch = _Launch(job, watcher, max_skipped, verify)
    remove_drafts(job.out)
    with listening() as stop:
        if processes > 1:
            with pool(job, processes, launch.first) as workers:
                for event in workers.events(stop):
                    shards = launch.hear(event)
                    if shards is not None:
                        workers.hand_out(shards)
        else:
            for event in _alone(job, launch, stop):
                launch.hear(event)
        return launch.end()


class _Launch:
    """The state of a launch."""

    def __init__(self, job: Job, watcher: Watcher, max_skipped: float, verify: bool) -> None:
        self._job, self._watcher, self._verify = job, watcher, verify
        self._keep = kept(job)
        self._skips = SkipLog(max_skipped=max_skipped, source=job.source.spec)
        self._failures: list[Failed] = []
        self._share = job.part.shards(job.plan.draft.shards)
        self._made = 0
        self.todo: Todo | None = None
        self.first = self._share.start * job.plan.draft.shard_size

    def hear(self, event: Event) -> Sequence[int] | None:
        """Take in what happened; what is to be done once that is known."""
        match event:
            case Ready(measured=measured) if measured is not None:
                self.todo = self._todo()
                self._watcher.begins(self.todo, measured)
                return self.todo.shards
            case Step(samples=samples):
                self._watcher.step(samples)
            case Made(record=record):
                self._made += 1
                self._watcher.made(record)
                self._skips.add(record.samples - record.filtered, record.left_out)
            case Failed():
                if event.input_error:
                    raise InputError(event.why)
                self._failures.append(event)
                self._watcher.lost(event)
            case _:
                pass
        return None

    def end(self) -> Done:
        """Finish the store where nothing is missing."""
        if self.todo is None:
            return Done(made=0, left=tuple(self._share), finished=False, failures=tuple(self._failures))
        recipe = self.todo.recipe
        left = tuple(missing(self._job.out, recipe, self.todo.shards))
        finished = not left and finish(self._job.out, recipe)
        return Done(made=self._made, left=left, finished=finished, failures=tuple(self._failures))

    def _todo(self) -> Todo:
        out = self._job.out
        recipe = read_recipe(out)
        lacking = missing(out, recipe, self._share, content=self._verify)
        damaged = tuple(wrong for wrong in lacking.values() if wrong is not None)
        forget(out, [shard for shard, wrong in lacking.items() if wrong is not None])
        for shard in self._share:
            if shard not in lacking and (record := read_record(out, shard)) is not None:
                self._skips.add(record.samples - record.filtered, record.left_out)
        others = [shard for shard in range(recipe.shards) if shard not in self._share]
        return Todo(
            recipe=recipe,
            shards=tuple(lacking),
            of=len(self._share),
            damaged=damaged,
            samples=self._count(recipe, tuple(lacking)),
            elsewhere=self._count(recipe, tuple(missing(out, recipe, others))),
        )

    def _count(self, recipe: Recipe, shards: Sequence[int]) -> int:
        ranges = (recipe.range(shard) for shard in shards)
        if self._keep is None:
            return sum(stop - first for first, stop in ranges)
        return sum(int(np.count_nonzero(self._keep[first:stop])) for first, stop in ranges)


def _alone(job: Job, launch: _Launch, stop: StopRequest) -> Generator[Event]:
    """What the pool does, in this process."""

    def step(samples: int) -> None:
        stepper(samples)
        if stop.number:
            raise Stopped

    stepper = Stepper(launch.hear)
    encoding = Encoding(job)
    encoding.begin()
    yield Ready(measured=encoding.measure(launch.first))
    for shard in launch.todo.shards if launch.todo else ():
        step(0)
        record = encoding.make(shard, step)
        stepper.flush()
        yield Made(record=record)
