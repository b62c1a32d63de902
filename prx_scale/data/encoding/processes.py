"""Processes that make shards, and whoever hands them out.

Each process has a pipe of its own: one that is killed in the middle of anything holds up no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from prx_scale.data.encoding.job import Encoding, Job
from prx_scale.data.encoding.measuring import Measured
from prx_scale.data.store.records import ShardRecord
from prx_scale.errors import InputError
from prx_scale.stopping import ASKING, StopRequest

_SECONDS_BETWEEN_STEPS = 0.5
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A process has loaded its encoders; the first has timed some samples."""

    measured: Measured | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """More samples of a shard are done."""

    samples: int


@dataclass(frozen=True, kw_only=True)
class Made:
    """A shard is written."""

    record: ShardRecord


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A process has ended; nobody made the shard that it was given."""

    process: int
    shard: int | None
    why: str
    input_error: bool = False


Event = Ready | Step | Made | Failed


class Stopped(Exception):
    """A signal has asked to end."""


class Stepper:
    """Passes on now and then how many samples are done."""

    def __init__(self, tell: Callable[[Step], object]) -> None:
        """Take who is to be told.

        Args:
            tell: is told.
        """
        self._tell, self._done, self._said = tell, 0, time.monotonic()

    def __call__(self, samples: int) -> None:
        """Count samples.

        Args:
            samples: more that are done.
        """
        self._done += samples
        if time.monotonic() - self._said > _SECONDS_BETWEEN_STEPS:
            self.flush()

    def flush(self) -> None:
        """Tell the rest."""
        if self._done:
            self._tell(Step(samples=self._done))
        self._done, self._said = 0, time.monotonic()


def serve(job: Job, process: int, processes: int, first: int, pipe: Connection) -> None:
    """Make the shards that are asked for; what a process runs.

    Args:
        job: what is to be done.
        process: its number; the first times some samples.
        processes: how many there are.
        first: number of the sample from which it times.
        pipe: to whoever asks.
    """
    # Ctrl-C and SLURM's signals go to all; who asks decides what becomes of it.
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    shard: int | None = None
    try:
        encoding = Encoding(job, process, processes)
        encoding.begin()
        pipe.send(Ready(measured=encoding.measure(first) if process == 0 else None))
        stepper = Stepper(pipe.send)
        while (shard := pipe.recv()) is not None:
            record = encoding.make(shard, stepper)
            stepper.flush()
            pipe.send(Made(record=record))
    except InputError as error:
        pipe.send(Failed(process=process, shard=shard, why=str(error), input_error=True))
    except (EOFError, BrokenPipeError):
        # Who asked is gone.
        return
    except Exception:
        pipe.send(Failed(process=process, shard=shard, why=traceback.format_exc()))


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    shard: int | None = None


class Pool:
    """Processes, and the shards that they are to make."""

    def __init__(self, job: Job, processes: int, first: int) -> None:
        """Start them.

        Args:
            job: what is to be done.
            processes: how many.
            first: number of the sample from which the first times.
        """
        context = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Worker] = {}
        self._shards: deque[int] = deque()
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(job, number, processes, first, theirs), name=f"encode-{number}", daemon=True
            )
            process.start()
            theirs.close()
            self._workers[number] = _Worker(process=process, pipe=ours)

    def events(self, stop: StopRequest) -> Generator[Event]:
        """What happens, until no process is busy or loading.

        Args:
            stop: whether to end.

        Raises:
            Stopped: a signal has asked to.
        """
        while any(not worker.ready or worker.shard is not None for worker in self._workers.values()):
            pipes = {worker.pipe: number for number, worker in self._workers.items()}
            for pipe in wait(list(pipes), timeout=_SECONDS_BETWEEN_LOOKS):
                yield self._heard(pipes[pipe])  # pyright: ignore[reportArgumentType]
            if stop.number:
                raise Stopped

    def hand_out(self, shards: Iterable[int]) -> None:
        """Give out shards, now and as processes become free.

        Args:
            shards: in their order.
        """
        self._shards.extend(shards)
        for worker in self._workers.values():
            if worker.ready and worker.shard is None:
                self._give(worker)

    def close(self) -> None:
        """End the processes: those that wait at once, others in the middle of a shard, of which nothing stays."""
        for worker in self._workers.values():
            if worker.shard is None and worker.ready:
                _send(worker.pipe, None)
            else:
                worker.process.kill()
        for worker in self._workers.values():
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _heard(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            event: Any = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            event = Failed(process=number, shard=worker.shard, why=ending(worker.process.exitcode))
        if isinstance(event, Failed):
            worker.process.join(10)
            del self._workers[number]
        elif isinstance(event, Ready):
            worker.ready = True
            self._give(worker)
        elif isinstance(event, Made):
            worker.shard = None
            self._give(worker)
        return event

    def _give(self, worker: _Worker) -> None:
        if self._shards and _send(worker.pipe, self._shards[0]):
            worker.shard = self._shards.popleft()


@contextmanager
def pool(job: Job, processes: int, first: int) -> Generator[Pool]:
    """Processes that end with the block.

    Args:
        job: what is to be done.
        processes: how many.
        first: number of the sample from which the first times.

    Yields:
        The pool.
    """
    # Threads of waiting processes must not spin where cores are shared; read when torch is imported there.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    made = Pool(job, processes, first)
    try:
        yield made
    finally:
        made.close()


def _send(pipe: Connection, what: object) -> bool:
    try:
        pipe.send(what)
    except OSError:
        return False
    return True


def ending(code: int | None) -> str:
    """How a process has ended, in words.

    Args:
        code: as `Process.exitcode` has it.
    """
    if code is not None and code < 0:
        killed = " (out of memory, perhaps)" if code == -signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{killed}"
    return f"ended with code {code}"
