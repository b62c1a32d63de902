"""How often a run was started and how each start ended: `<run>/attempts.jsonl`.

A row at each start, one at each end that could still be written, and one where somebody asked to try again. A start
without an end was killed: its node failed, or it had no time to save.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, cast

from prx_scale.errors import InputError
from prx_scale.runs.clock import now
from prx_scale.runs.files import append_lines, drop_torn_tail, read_rows
from prx_scale.runs.info import State


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
