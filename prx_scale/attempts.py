"""How often a run was started and how each start ended: `<run>/attempts.jsonl`, and when to give up.

A row at each start, one at each end that could still be written, and one where somebody asked to try again. A start
without an end was killed: its node failed, or it had no time to save.
"""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, cast

from prx_scale.errors import InputError
from prx_scale.runs.clock import now
from prx_scale.runs.files import append_lines, drop_torn_tail, read_rows
from prx_scale.runs.info import State

EARLY_SECONDS = 65.0
"""SLURM looks at time limits once a minute, so its signal may come that much before it is due."""
KILLED = "killed: its end was not recorded"


class Ending(StrEnum):
    """Why a start of a run ended."""

    DONE = "done"
    FAILED = "failed"
    """An error that would come again, or a loss that is not finite."""
    BAD_INPUT = "bad-input"
    SIGNAL = "signal"
    """Asked to stop, by no cluster."""
    TIME_LIMIT = "time-limit"
    PREEMPTED = "preempted"
    PEER_DIED = "peer-died"
    CONNECTION = "connection"
    """A collective failed or timed out, and nobody is known to have died."""
    SUPERSEDED = "superseded"
    """A later job took the run over; what the earlier one did after that is not in the record."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The cluster job that a process works for."""

    id: str
    """SLURM's: 123, or 123_4 in an array."""
    restart: int
    """How often SLURM has requeued it."""
    limit_seconds: float | None
    """Time limit of one start."""
    signal_seconds: float
    """How long before the limit the signal comes."""
    max_restarts: int
    """Of one run, whatever the reason."""
    max_fruitless: int
    """Starts in a row from the same checkpoint, after which a run has failed."""
    started: float
    """When the process started, in seconds since the epoch."""
    hosts: tuple[str, ...] = ()
    """Nodes that the job has; empty: only this machine is known."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start of training."""

    attempt: int
    """Counted from 1, over all jobs."""
    executor: Literal["local", "slurm"]
    job: str | None
    restart: int
    hosts: tuple[str, ...]
    world_size: int
    from_step: int
    """Of the checkpoint that it goes on from; 0 where there is none."""
    time: str


@dataclass(frozen=True, kw_only=True)
class End:
    """How a start ended."""

    attempt: int
    state: State
    step: int
    cause: Ending
    reason: str | None
    time: str


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Somebody asked to try again: counting begins anew."""

    time: str


Row = Start | End | Retry
_EVENTS: dict[str, type[Row]] = {"start": Start, "end": End, "retry": Retry}


class Attempts:
    """The attempts at one run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "attempts.jsonl"

    def rows(self) -> list[Row]:
        """All rows, in the order in which they were written; a torn last line is skipped with a warning.

        Raises:
            InputError: a row is not of this version.
        """
        lines = enumerate(read_rows(self.path), start=1)
        return [_row(content, f"{self.path}, line {number}") for number, content in lines]

    def start(self, job: Job | None, world_size: int, from_step: int) -> Start:
        """Note that training starts.

        Args:
            job: that it starts in; None outside a cluster.
            world_size: processes.
            from_step: of the checkpoint that it goes on from.

        Returns:
            The row.
        """
        hosts = job.hosts if job else ()
        start = Start(
            attempt=len(self._starts()) + 1,
            executor="slurm" if job else "local",
            job=job.id if job else None,
            restart=job.restart if job else 0,
            hosts=hosts or (socket.gethostname(),),
            world_size=world_size,
            from_step=from_step,
            time=now(),
        )
        self._append(start)
        return start

    def end(self, state: State, step: int, cause: Ending, reason: str | None) -> None:
        """Note how the last start ended.

        Args:
            state: of the run.
            step: that it reached.
            cause: why it ended.
            reason: the same in words.
        """
        attempt = len(self._starts())
        self._append(End(attempt=attempt, state=state, step=step, cause=cause, reason=reason, time=now()))

    def superseded(self, job: Job) -> None:
        """Note that the last start, if its end was not noted, was replaced while it was going on.

        Args:
            job: that took the run over.
        """
        rows = self.rows()
        if rows and isinstance(rows[-1], Start):
            reason = f"job {job.id} (restart {job.restart}) took the run over"
            self.end(State.INTERRUPTED, rows[-1].from_step, Ending.SUPERSEDED, reason)

    def retry(self) -> None:
        """Note that the run is to be tried again: what was before counts for no verdict any more."""
        self._append(Retry(time=now()))

    def _starts(self) -> list[Start]:
        return [row for row in self.rows() if isinstance(row, Start)]

    def _append(self, row: Row) -> None:
        drop_torn_tail(self.path)
        event = next(name for name, cls in _EVENTS.items() if isinstance(row, cls))
        append_lines(self.path, [{"event": event, **asdict(row)}])


def _row(content: dict[str, Any], where: str) -> Row:
    event = content.get("event")
    if event not in _EVENTS:
        raise InputError(f"{where}: 'event' is {event!r}; this version knows {', '.join(_EVENTS)}")
    cls = _EVENTS[event]
    known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
    try:
        if cls is Start:
            known["hosts"] = tuple(cast("list[str]", known["hosts"]))
        if cls is End:
            known["state"], known["cause"] = State(known["state"]), Ending(known["cause"])
        return cls(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not an attempt of this version ({error})") from error


Counted = Sequence[tuple[Start, End | None]]
"""Starts with their ends, None for those that were killed."""


def counted(rows: Sequence[Row]) -> Counted:
    """The starts in jobs since the last retry, each with its end.

    Args:
        rows: of a run's attempts.
    """
    last_retry = max((index for index, row in enumerate(rows) if isinstance(row, Retry)), default=-1)
    since = rows[last_retry + 1 :]
    ends = {row.attempt: row for row in since if isinstance(row, End)}
    return [(row, ends.get(row.attempt)) for row in since if isinstance(row, Start) and row.executor == "slurm"]


def fruitless(starts: Counted, from_step: int) -> int:
    """How many starts in a row, up to the last, went on from the same checkpoint as the next one.

    Args:
        starts: in their order.
        from_step: of the checkpoint that the next start goes on from.
    """
    number = 0
    for start, _ in reversed(starts):
        if start.from_step != from_step:
            break
        number += 1
    return number


def verdict(rows: Sequence[Row], job: Job, from_step: int) -> str | None:
    """Whether to give up instead of starting once more.

    Args:
        rows: of the run's attempts.
        job: has the limits.
        from_step: of the checkpoint that the next start would go on from.

    Returns:
        The reason to give up; None to go on.
    """
    starts = counted(rows)
    same = fruitless(starts, from_step)
    if same >= job.max_fruitless:
        _, end = starts[-1]
        last = KILLED if end is None else end.reason or end.cause.value
        times = "once" if same == 1 else f"{same} times"
        return f"started {times} from step {from_step} without reaching a new checkpoint; the last one ended: {last}"
    if len(starts) > job.max_restarts:
        return f"{_too_often(starts)}; raise [slurm] max_restarts or use prx-scale retry"
    return None


def _too_often(starts: Counted) -> str:
    causes = Counter("killed" if end is None else end.cause.value for _, end in starts)
    preempted = causes[Ending.PREEMPTED.value]
    restarts = f"{len(starts)} restart{'s' if len(starts) > 1 else ''}"
    if preempted == max(causes.values()):
        return f"preempted too often: {restarts}, {preempted} of them preemptions"
    return f"restarted too often: {restarts}, after {', '.join(f'{n} {cause}' for cause, n in causes.most_common())}"


def signal_cause(number: int, job: Job | None, seconds: float) -> Ending:
    """Why a signal came.

    SLURM sends SIGUSR2 ahead of the time limit and, where a site asks for that, of a preemption, and does not say
    which. Only near the limit is it the limit.

    Args:
        number: of the signal.
        job: that the process works for; None outside a cluster.
        seconds: since the process started.
    """
    if job is None or number == signal.SIGINT:
        return Ending.SIGNAL
    ahead = job.signal_seconds if number == signal.SIGUSR2 else 0.0
    if job.limit_seconds is not None and seconds >= job.limit_seconds - ahead - EARLY_SECONDS:
        return Ending.TIME_LIMIT
    return Ending.PREEMPTED


def signal_reason(number: int, job: Job | None, seconds: float) -> str:
    """The cause of a signal in words.

    Args:
        number: of the signal.
        job: that the process works for; None outside a cluster.
        seconds: since the process started.
    """
    name, cause = signal.Signals(number).name, signal_cause(number, job, seconds)
    if job is None or cause is Ending.SIGNAL:
        return f"asked to stop by {name}; the same command goes on from here"
    after = f"{name} after {_clock(seconds)}"
    if cause is Ending.TIME_LIMIT:
        return f"time limit of {_clock(job.limit_seconds or 0)}: {after}; a restart goes on from here"
    words = "preempted" if number == signal.SIGUSR2 else "preempted or cancelled"
    return f"{words}: {after}; a restart goes on from here"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
