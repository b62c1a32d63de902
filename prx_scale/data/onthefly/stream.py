"""Batches that other processes make, in the order of training, and who waits for whom."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from torch import Tensor

from prx_scale.data.encoding.processes import ending
from prx_scale.data.onthefly.producing import Broken, Item, Production, Share, produce
from prx_scale.data.onthefly.schedule import Planner, Wanted
from prx_scale.data.onthefly.slots import read, shared, slot_bytes
from prx_scale.data.skips import SkipLog
from prx_scale.data.store.batch import EncodedBatch, Numbers, from_arrays
from prx_scale.errors import InputError
from prx_scale.stopping import ASKING


class TooManySkipped(RuntimeError):
    """Too many samples cannot be used: training ends as failed, for the same would come again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """A micro-batch of a process."""

    item: int
    """Its number."""
    batch: EncodedBatch
    places: Numbers
    """(b,) of its samples in training: what names their noise; of held-out samples, their places among those."""


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
    """Micro-batches that processes make ahead; a context manager, which ends them.

    With P processes, the k-th micro-batch is made by process k mod P, and each is at most `ahead` finished ones ahead,
    and one under way. Which samples it has, and their numbers, depend on k alone: not on P, nor on a restart.
    """

    def __init__(
        self, production: Production, *, processes: int = 1, ahead: int = 2, skips: SkipLog | None = None
    ) -> None:
        """Take what is to be made; processes start with the first micro-batch.

        Args:
            production: what is to be made.
            processes: that make it.
            ahead: finished micro-batches that each may be ahead.
            skips: counts samples that cannot be used, and ends the work when they are too many.

        Raises:
            InputError: sizes that do not make up a step, or neither data nor a store.
        """
        if processes < 1 or ahead < 1:
            raise InputError(f"{processes} processes, {ahead} batches ahead; at least 1 of each")
        if bool(production.sources) == (production.store is not None):
            raise InputError("encoding on the fly takes data, or a store that has latents; one of them")
        self.production, self.processes, self.ahead = production, processes, ahead
        self.planner = Planner(production.schedule)
        self._skips = skips or SkipLog(source=production.setup.plan.draft.data.spec)
        self._producers: list[_Producer] = []
        self._heldout: list[Streamed] | None = None
        self._item = self._first = 0
        self._starting, self._closed = threading.RLock(), False
        self._clock = _Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take(self, seen: int) -> Streamed:
        """The micro-batch after some samples; the processes go on behind it, and begin anew where it is another place.

        Args:
            seen: samples that all processes that train have seen.

        Raises:
            InputError: weights that are not there, or an encoder gives what cannot be stored.
            TooManySkipped: too many samples cannot be used.
            RuntimeError: a process has ended; with its traceback, or the signal that ended it.
        """
        item = self.planner.micro_batches.at(seen)
        if item != self._item:
            self._end()
            self._item = item
        self._start()
        began = time.perf_counter()
        number = (item - self._first) % self.processes
        found = self._message(number, item)
        assert not found.heldout and found.item == item, f"micro-batch {found.item} came in the place of {item}"
        self._clock.note(found, time.perf_counter() - began)
        batch = self._read(number, found)
        self._item += 1
        return Streamed(item=item, batch=batch, places=self.planner.wanted(item).places)

    def heldout(self) -> list[Streamed]:
        """The held-out samples, of one bucket each; encoded once, before the first micro-batch.

        Raises:
            InputError: one cannot be used, and there is none to stand in for it.
            RuntimeError: a process has ended.
        """
        self._start()
        assert self._heldout is not None
        return self._heldout

    @property
    def waiting(self) -> Waiting:
        """Who waited for whom so far."""
        return self._clock.waiting()

    def close(self) -> None:
        """End the processes for good; another thread that waits for a micro-batch is given an error."""
        with self._starting:
            self._closed = True
            self._end()
        self._skips.close()

    def _end(self) -> None:
        """What processes were making is made again when they start anew."""
        producers, self._producers = self._producers, []
        for producer in producers:
            # They hold nothing that could be lost.
            producer.process.kill()
        for producer in producers:
            producer.process.join()
            producer.pipe.close()

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                raise RuntimeError("encoding on the fly has been closed")
            if not self._producers:
                self._first, self._clock = self._item, _Clock()
                draft = self.production.setup.plan.draft
                size = max(slot_bytes(draft, *shape) for shape in self.planner.largest())
                room = shared(self.processes * self.ahead, size)
                for number in range(self.processes):
                    slots = room[number * self.ahead : (number + 1) * self.ahead]
                    self._producers.append(self._started(number, slots))
        if self._heldout is None:
            self._heldout = [self._held(wanted) for wanted in self.planner.heldout()]

    def _started(self, number: int, slots: Tensor) -> _Producer:
        import torch.multiprocessing

        # Read when torch is imported there: waiting threads must not spin where cores are shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = torch.multiprocessing.get_context("spawn")
        share = Share(process=number, processes=self.processes, first=self._first, heldout=self._heldout is None)
        ours, theirs = context.Pipe()
        process = context.Process(
            target=produce, args=(self.production, share, slots, theirs), name=f"producer-{number}", daemon=True
        )
        # Signals to all processes are for the one that trains, also while this one is importing. The tracker that
        # spawning starts would let them through again.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Producer(process=process, pipe=ours, slots=slots)

    def _held(self, wanted: Wanted) -> Streamed:
        number = wanted.item % self.processes
        found = self._message(number, wanted.item)
        assert found.heldout and found.item == wanted.item
        return Streamed(item=wanted.item, batch=self._read(number, found), places=wanted.places)

    def _read(self, number: int, found: Item) -> EncodedBatch:
        """A batch out of its slot, which is free then."""
        producer, draft = self._producers[number], self.production.setup.plan.draft
        arrays = read(producer.slots[found.slot].numpy(), found.arrays)
        with suppress(OSError):  # it has ended; that is said when its next micro-batch is due
            producer.pipe.send(found.slot)
        batch = from_arrays(arrays, found.bucket, draft.latents, draft.states)
        try:
            self._skips.add(len(batch), found.skipped)
        except InputError as error:
            raise TooManySkipped(str(error)) from error
        return batch

    def _message(self, number: int, item: int) -> Item:
        producer = self._producers[number]
        try:
            message: Item | Broken = producer.pipe.recv()
        except (EOFError, OSError):
            producer.process.join()
            ended = ending(producer.process.exitcode)
            raise RuntimeError(f"producer {number} {ended} before micro-batch {item} was made") from None
        if not isinstance(message, Broken):
            return message
        if message.input_error:
            raise InputError(message.why)
        at = "loading" if message.item is None else f"making micro-batch {message.item}"
        last = message.why.strip().splitlines()[-1]
        raise RuntimeError(f"producer {number} failed at {at}: {last}\n{message.why}")


class _Clock:
    """Counts seconds."""

    def __init__(self) -> None:
        self._began, self._first_at, self._start = time.perf_counter(), 0.0, 0.0
        self._items, self._waited, self._busy, self._idle = 0, 0.0, 0.0, 0.0

    def note(self, item: Item, waited: float) -> None:
        """A micro-batch came; the first ends the start.

        Args:
            item: what came.
            waited: seconds for it.
        """
        if not self._first_at:
            self._first_at = time.perf_counter()
            self._start = self._first_at - self._began
            return
        self._items += 1
        self._waited += waited
        self._busy += item.busy
        self._idle += item.idle

    def waiting(self) -> Waiting:
        """Shares so far."""
        elapsed = time.perf_counter() - self._first_at if self._items else 0.0
        return Waiting(
            items=self._items,
            start=self._start,
            trainer=self._waited / elapsed if elapsed else 0.0,
            producers=self._idle / (self._idle + self._busy) if self._items else 0.0,
        )
