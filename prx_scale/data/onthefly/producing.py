"""A process that makes every P-th micro-batch, ahead of whoever trains on them."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from torch import Tensor

from prx_scale.data.buckets import Bucket
from prx_scale.data.encoding.job import Setup, encoders_of, work_of
from prx_scale.data.onthefly.making import Drawn, FromImages, FromStore, Maker
from prx_scale.data.onthefly.schedule import Planner, Schedule, Wanted
from prx_scale.data.onthefly.slots import Array, write
from prx_scale.data.samples import Skipped
from prx_scale.data.sources.base import Source
from prx_scale.errors import InputError
from prx_scale.stopping import ASKING


@dataclass(frozen=True, kw_only=True)
class Production:
    """What is to be made; goes to processes in a pickle."""

    setup: Setup
    schedule: Schedule
    drawn: Drawn
    sources: tuple[Source, ...] = ()
    """Of images and captions, one for each of the schedule's materials; or"""
    store: Path | None = None
    """folder of a store that has latents, and captions as text."""

    def maker(self, process: int, processes: int) -> Maker:
        """Load the encoders.

        Args:
            process: number of this process.
            processes: how many share the machine.

        Raises:
            InputError: weights that are not there, or not those of the plan.
        """
        if self.sources:
            work = work_of(self.setup, self.sources[0], process, processes)
            return FromImages(work, self.sources[1:], Planner(self.schedule), self.drawn)
        assert self.store is not None
        encoders = encoders_of(self.setup, process, processes, images=False)
        recipe = encoders.complete(self.setup.plan.draft)
        return FromStore(self.store, recipe, encoders, self.drawn)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A micro-batch lies in a slot."""

    item: int
    heldout: bool
    slot: int
    bucket: Bucket
    arrays: tuple[Array, ...]
    skipped: tuple[Skipped, ...]
    busy: float
    """Seconds that it took."""
    idle: float
    """Seconds that the process then waited for a slot."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The process ends."""

    why: str
    input_error: bool
    item: int | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process makes: micro-batches first + process, first + process + P ..."""

    process: int
    processes: int
    """P."""
    first: int
    heldout: bool
    """Before them every P-th one of the held-out samples."""

    def wanted(self, planner: Planner) -> Iterator[Wanted]:
        """Micro-batches in their order, without end.

        Args:
            planner: names their samples.
        """
        if self.heldout:
            yield from planner.heldout()[self.process :: self.processes]
        yield from map(planner.wanted, count(self.first + self.process, self.processes))


def produce(production: Production, share: Share, slots: Tensor, pipe: Connection) -> None:
    """Make micro-batches; what a process runs.

    Args:
        production: what is to be made.
        share: this process's part.
        slots: (n, bytes) shared memory, which the numbers of free slots come for.
        pipe: to whoever trains.
    """
    # Ctrl-C and SLURM's signals go to all; who trains saves first, and ends this process.
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    item: int | None = None
    try:
        maker = production.maker(share.process, share.processes)
        free = list(range(len(slots)))
        room = slots.numpy()
        for wanted in share.wanted(Planner(production.schedule)):
            item, start = wanted.item, time.perf_counter()
            made = maker.make(wanted)
            done = time.perf_counter()
            slot = free.pop() if free else pipe.recv()
            got = time.perf_counter()
            while pipe.poll():
                free.append(pipe.recv())
            pipe.send(
                Item(
                    item=item,
                    heldout=wanted.heldout,
                    slot=slot,
                    bucket=made.batch.bucket,
                    arrays=write(room[slot], made.batch.arrays()),
                    skipped=made.skipped,
                    busy=done - start,
                    idle=got - done,
                )
            )
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Who trained is gone.
        return
    except InputError as error:
        pipe.send(Broken(why=str(error), input_error=True, item=item))
    except Exception:
        pipe.send(Broken(why=traceback.format_exc(), input_error=False, item=item))
