"""Jobs as processes of this machine, so many at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 60
"""How long a job that was asked to stop may take to save its state."""
POLL_SECONDS = 0.2
PARENT_VARIABLE = "PRX_SCALE_PARENT"
"""Tells a job which process started it, so that it does not outlive it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command with a name and a file for what it prints."""

    name: str
    command: tuple[str, ...]
    output: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    job: Job
    exit_code: int

    @property
    def last_lines(self) -> str:
        """The end of what the job printed."""
        if not self.job.output.exists():
            return ""
        return "\n".join(self.job.output.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many jobs run side by side, and how many threads each computes with."""

    workers: int
    threads: int


def room(jobs: int, workers: int | None = None) -> Room:
    """Divide this machine's cores among jobs.

    Args:
        jobs: how many there are.
        workers: side by side; by default as many as there are cores or jobs.
    """
    cores = len(os.sched_getaffinity(0))
    side_by_side = max(1, min(jobs, workers or cores))
    return Room(workers=side_by_side, threads=max(1, cores // side_by_side))


class Interrupted(Exception):
    """The jobs were asked to stop, and have."""


def run_jobs(
    jobs: Sequence[Job],
    share: Room,
    tick: Callable[[], None] | None = None,
    started: Callable[[Job, int], None] | None = None,
) -> list[Outcome]:
    """Run jobs to their end, in the order given, so many at a time.

    SIGINT and SIGTERM are passed on: running jobs save their state and end, waiting ones are not started. A second
    signal kills.

    Args:
        jobs: what to run.
        share: how many at a time, with how many threads.
        tick: called several times a second.
        started: is told each job that starts and its process id.

    Returns:
        How each ended.

    Raises:
        Interrupted: a signal asked to stop.
    """
    waiting, running, ended = list(jobs), dict[Job, subprocess.Popen[bytes]](), list[Outcome]()
    with _signals() as asked:
        while waiting or running:
            while waiting and len(running) < share.workers and not asked.count:
                job = waiting.pop(0)
                running[job] = _start(job, share.threads)
                if started:
                    started(job, running[job].pid)
            for job, process in list(running.items()):
                if process.poll() is not None:
                    ended.append(Outcome(job=job, exit_code=process.returncode))
                    del running[job]
            if asked.count:
                _stop(list(running.values()), asked)
                raise Interrupted
            if tick:
                tick()
            time.sleep(POLL_SECONDS)
    return ended


@dataclass
class _Asked:
    count: int = 0


@contextmanager
def _signals() -> Generator[_Asked]:
    asked = _Asked()

    def note(number: int, frame: FrameType | None) -> None:
        asked.count += 1

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        PARENT_VARIABLE: str(os.getpid()),
    }
    with job.output.open("ab") as output:
        # A session of its own: a Ctrl-C in the terminal reaches the launcher, which passes it on once.
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]], asked: _Asked) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    while any(process.poll() is None for process in processes):
        if asked.count > 1 or time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(POLL_SECONDS)
