"""Batches that other processes make, in the order of training, and who waits for whom."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from prx_scale.data.encoding.processes import ending
from prx_scale.data.onthefly.producing import Broken, Item, Production, Ready, produce
from prx_scale.data.onthefly.schedule import Planner
from prx_scale.data.onthefly.slots import read, shared, slot_bytes
from prx_scale.data.skips import SkipLog
from prx_scale.data.store.batch import EncodedBatch, Numbers, from_arrays
from prx_scale.data.store.recipe import Recipe
from prx_scale.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """A micro-batch of a process."""

    item: int
    """Its number."""
    batch: EncodedBatch
    places: Numbers
    """(b,) of its samples in training: what names their noise."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Who waited for whom, since the first micro-batch came."""

    items: int
    """Micro-batches since then."""
    start: float
    """Seconds until the first came: encoders were loaded, and it was made."""
    trainer: float
    """Share of its time that the trainer waited for a micro-batch."""
    producers: float
    """Share of their time that producers waited for the trainer to take one."""

    def __str__(self) -> str:
        return (
            f"the trainer waited for encoders {self.trainer:.0%} of its time, encoders for the trainer "
            f"{self.producers:.0%}, over {self.items:,} micro-batches"
        )


@dataclass
class _Producer:
    process: BaseProcess
    pipe: Connection
    slots: Tensor


class OnTheFly:
    """An endless stream of micro-batches that processes make ahead; a context manager, which ends them.

    With P processes, the k-th micro-batch is made by process k mod P, and each is at most `depth` finished ones ahead,
    and one under way. Which samples it has, and their numbers, depend on k alone: not on P, nor on a restart.
    """

    def __init__(
        self, production: Production, *, processes: int = 1, depth: int = 2, skips: SkipLog | None = None
    ) -> None:
        """Take what is to be made; processes start with the first micro-batch.

        Args:
            production: what is to be made.
            processes: that make it.
            depth: finished micro-batches that each may be ahead.
            skips: counts samples that cannot be used, and ends the work when they are too many.

        Raises:
            InputError: sizes that do not make up a step, or neither data nor a store.
        """
        if processes < 1 or depth < 1:
            raise InputError(f"{processes} processes, {depth} batches ahead; at least 1 of each")
        if (production.source is None) == (production.store is None):
            raise InputError("encoding on the fly takes data, or a store that has latents; one of them")
        self.production, self.processes, self.depth = production, processes, depth
        self._planner = Planner(production.schedule)
        self._skips = skips or SkipLog(source=production.setup.plan.draft.data.spec)
        self._producers: list[_Producer] = []
        self._recipe: Recipe | None = None
        self._item = 0
        self._reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def recipe(self) -> Recipe:
        """What the numbers depend on; starts the processes and waits until encoders are loaded.

        Raises:
            InputError: weights that are not there, or not those of the plan.
            RuntimeError: a process has ended.
        """
        self._start()
        if self._recipe is None:
            message = self._message((self._item - self._first) % self.processes, self._item)
            assert isinstance(message, Ready)
            self._recipe = message.recipe
        return self._recipe

    def state_dict(self) -> dict[str, Any]:
        """Samples that all processes that train have seen, and the data that they are of."""
        return {"seen": self.production.schedule.seen(self._item), "data": self._data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped, with any number of processes of either kind.

        Args:
            state_dict: of a stream of the same data.

        Raises:
            InputError: it is of other data.
        """
        if state_dict["data"] != self._data:
            raise InputError(f"the checkpoint was trained on other data than {self.production.setup.plan.draft.data}")
        self.close()
        self._item = self.production.schedule.first(state_dict["seen"])

    @property
    def waiting(self) -> Waiting:
        """Who waited for whom so far."""
        elapsed = time.perf_counter() - self._first_at if self._items else 0.0
        return Waiting(
            items=self._items,
            start=self._start_seconds,
            trainer=self._waited / elapsed if elapsed else 0.0,
            producers=self._idle / (self._idle + self._busy) if self._items else 0.0,
        )

    def __iter__(self) -> Iterator[Streamed]:
        """Micro-batches from where the stream stands.

        Raises:
            InputError: too many samples cannot be used, or an encoder gives what cannot be stored.
            RuntimeError: a process has ended; with its traceback, or the signal that ended it.
        """
        while True:
            yield self._next()

    def close(self) -> None:
        """End the processes; what they were making is made again when the stream goes on."""
        for producer in self._producers:
            producer.pipe.close()
            # They hold nothing that could be lost.
            producer.process.kill()
        for producer in self._producers:
            producer.process.join()
        self._producers = []
        self._reset()

    def _next(self) -> Streamed:
        self._start()
        began = time.perf_counter()
        found = self._hear(self._item)
        producer = self._producers[(self._item - self._first) % self.processes]
        arrays = read(producer.slots[found.slot].numpy(), found.arrays)
        self._free(producer, found.slot)
        self._note(found, time.perf_counter() - began)
        self._skips.add(self.production.schedule.size, found.skipped)
        recipe = self.recipe
        size = self.production.schedule.image_size
        buckets = next(each.buckets for each in recipe.resolutions if each.image_size == size)
        batch = from_arrays(arrays, buckets[found.bucket], recipe.latents, recipe.states)
        self._item += 1
        return Streamed(item=found.item, batch=batch, places=self._planner.wanted(found.item).places)

    def _start(self) -> None:
        if self._producers:
            return
        import torch.multiprocessing

        # Read when torch is imported there: waiting threads must not spin where cores are shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._first, self._began = self._item, time.perf_counter()
        context = torch.multiprocessing.get_context("spawn")
        size = slot_bytes(self.production.setup.plan.draft, self.production.schedule.size)
        room = shared(self.processes * self.depth, size)
        for number in range(self.processes):
            slots = room[number * self.depth : (number + 1) * self.depth]
            ours, theirs = context.Pipe()
            process = context.Process(
                target=produce,
                args=(self.production, number, self.processes, self._first, slots, theirs),
                name=f"producer-{number}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._producers.append(_Producer(process=process, pipe=ours, slots=slots))

    def _hear(self, item: int) -> Item:
        """A micro-batch, from the process that makes it."""
        number = (item - self._first) % self.processes
        while not isinstance(message := self._message(number, item), Item):
            self._recipe = self._recipe or message.recipe
        assert message.item == item, f"micro-batch {message.item} came in the place of {item}"
        return message

    def _message(self, number: int, item: int) -> Ready | Item:
        producer = self._producers[number]
        try:
            message: Ready | Item | Broken = producer.pipe.recv()
        except (EOFError, OSError):
            producer.process.join()
            ended = ending(producer.process.exitcode)
            raise RuntimeError(f"producer {number} {ended} before micro-batch {item} was made") from None
        if not isinstance(message, Broken):
            return message
        if message.input_error:
            raise InputError(message.why)
        at = "loading" if message.item is None else f"making micro-batch {message.item}"
        raise RuntimeError(f"producer {number} failed at {at}:\n{message.why}")

    def _free(self, producer: _Producer, slot: int) -> None:
        try:
            producer.pipe.send(slot)
        except OSError:
            # It has ended; that is said when its next micro-batch is due.
            return

    def _note(self, item: Item, waited: float) -> None:
        if not self._first_at:
            self._start_seconds, self._first_at = time.perf_counter() - self._began, time.perf_counter()
            return
        self._items += 1
        self._waited += waited
        self._busy += item.busy
        self._idle += item.idle

    def _reset(self) -> None:
        self._first, self._began, self._first_at, self._start_seconds = 0, 0.0, 0.0, 0.0
        self._items, self._waited, self._busy, self._idle = 0, 0.0, 0.0, 0.0

    @property
    def _data(self) -> str:
        schedule, data = self.production.schedule, self.production.setup.plan.draft.data
        return (
            f"{data.fingerprint} {data.filter} {schedule.image_size} {schedule.seed} {schedule.stage} {schedule.batch}"
        )
