"""How a run stands: what its record, its job and the study's list of jobs say, taken together. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.runs.info import State
from slurm.jobstatus import JobStatus, Phase
from slurm.plan import ENDED_BADLY

WAITING = "waiting"
KILLED = "killed"
CANCELLED = "cancelled"
ACTIVE = (WAITING, State.RUNNING.value)
"""States of runs that somebody works on, or will."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run's state, and why it is so."""

    state: str
    """As recorded, or waiting, cancelled, killed."""
    reason: str | None = None


def standing(
    recorded: State | None, reason: str | None, job: JobStatus | None, *, cancelled: bool = False, held: bool = False
) -> Standing:
    """How a run stands.

    Args:
        recorded: state in run.json; None where there is none.
        reason: in run.json.
        job: its last job on SLURM; None where it has none, or SLURM was not asked.
        cancelled: whether that job was cancelled through this package.
        held: whether a process holds the run's lock here.
    """
    if recorded is State.DONE:
        return Standing(state=State.DONE.value)
    if job is None or held:
        return _without_job(recorded, reason, held=held)
    if job.phase is Phase.WAITING:
        return Standing(state=WAITING, reason=waits_for(job))
    if recorded is State.FAILED:
        return Standing(state=State.FAILED.value, reason=reason)
    if job.phase is Phase.RUNNING:
        return Standing(state=State.RUNNING.value, reason=_at_work(recorded, job))
    return _ended(recorded, reason, job, cancelled=cancelled)


def _without_job(recorded: State | None, reason: str | None, *, held: bool) -> Standing:
    if held:
        return Standing(state=State.RUNNING.value, reason=None if recorded is State.RUNNING else "starting")
    if recorded is State.RUNNING:
        return Standing(state=KILLED, reason=reason)
    return Standing(state=(recorded or State.PENDING).value, reason=reason)


def waits_for(job: JobStatus) -> str:
    """What a waiting job waits for.

    Args:
        job: that waits.
    """
    parts = [f"requeued, restart {job.restarts}"] if job.restarts else []
    parts += [job.reason] if job.reason else []
    text = ": ".join(parts) or "queued"
    if job.expected_start:
        text += f", expected {job.expected_start.astimezone():%m-%d %H:%M}"
    return text


def _at_work(recorded: State | None, job: JobStatus) -> str | None:
    if job.state != "RUNNING":
        return job.state.lower()
    if recorded is State.RUNNING:
        return None
    return f"starting, restart {job.restarts}" if job.restarts else "starting"


def _ended(recorded: State | None, reason: str | None, job: JobStatus, *, cancelled: bool) -> Standing:
    words = ended_as(job)
    if cancelled or job.state == "CANCELLED":
        return Standing(state=CANCELLED, reason=f"job {job.job} was cancelled")
    if job.state in ENDED_BADLY:
        return Standing(state=State.FAILED.value, reason=f"{words}; before that: {reason}" if reason else words)
    if recorded is State.RUNNING:
        return Standing(state=KILLED, reason=words)
    return Standing(state=(recorded or State.PENDING).value, reason=reason or words)


def ended_as(job: JobStatus) -> str:
    """How a job ended, in words.

    Args:
        job: that has ended.
    """
    if job.state == "UNKNOWN":
        return f"job {job.job}: {job.reason}"
    how = f", signal {job.signal}" if job.signal else f", exit code {job.exit_code}" if job.exit_code else ""
    return f"job {job.job} ended: {job.state}{how}"
