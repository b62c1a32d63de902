"""What a study still needs: launching it twice adds only what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from prx_scale.config import RunConfig
from prx_scale.locks import is_held
from prx_scale.runs.info import RunInfo, State
from prx_scale.runs.record import RunRecord
from slurm.controller import JobStatus, Phase, job_statuses
from slurm.ledger import JobRecord, Kind, Ledger, read_ledger

ENDED_BADLY = ("FAILED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE")
"""States in which SLURM leaves a job that did not do its work; one that was cancelled may be launched again."""


class Action(StrEnum):
    """What a launch does with a run."""

    START = "start"
    RESUME = "resume"
    SKIP_DONE = "skip: done"
    SKIP_FAILED = "skip: failed"
    LEAVE = "leave: running"
    LEAVE_WAITING = "leave: waiting"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run and what a launch does with it."""

    run: RunConfig
    folder: Path
    action: Action
    reason: str | None = None
    """Why a failed run failed; the job of one that is left alone."""

    @property
    def due(self) -> bool:
        """Whether it is to be worked on."""
        return self.action in (Action.START, Action.RESUME)


@dataclass(frozen=True, kw_only=True)
class Again:
    """Failed runs that are to be tried again."""

    jobs: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    """By run id, the last job that it had when it was found failed: whoever launches it first gives it another."""
    fresh: bool = False
    """From step 0."""

    def holds(self, run: str, jobs: Jobs) -> bool:
        """Whether a run is to be tried again, and nobody has done so yet.

        Args:
            run: its id.
            jobs: of the study now.
        """
        return run in self.jobs and self.jobs[run] == jobs.last(run)


NO_RETRY = Again()


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The jobs of a study and how they stand."""

    ledger: Ledger
    statuses: Mapping[str, JobStatus] = field(default_factory=dict[str, JobStatus])

    def latest(self, kind: Kind, run: str | None) -> tuple[JobRecord, JobStatus] | None:
        """The last job of a kind that a run has had on SLURM, where SLURM still knows it.

        Args:
            kind: of job.
            run: its id; None for jobs of the whole study.
        """
        record = self.ledger.latest(kind, run)
        status = self.statuses.get(record.job) if record else None
        return (record, status) if record and status else None

    def last(self, run: str) -> str | None:
        """Id of the last job that has trained a run, on SLURM or on a machine.

        Args:
            run: its id.
        """
        record = self.ledger.latest(Kind.TRAIN, run)
        return record.job if record else None

    def active(self, kind: Kind, run: str | None) -> JobRecord | None:
        """The job of a kind that a run has waiting or running, if any.

        Args:
            kind: of job.
            run: its id; None for jobs of the whole study.
        """
        found = self.latest(kind, run)
        return found[0] if found and found[1].phase is not Phase.ENDED else None


def jobs_of(study: Path) -> Jobs:
    """The jobs of a study, with what SLURM says of them; SLURM is only asked where the study has had jobs there.

    Args:
        study: the study folder.

    Raises:
        InputError: SLURM does not answer.
    """
    ledger = read_ledger(study)
    asked = [job.job for job in ledger.on_slurm()]
    return Jobs(ledger=ledger, statuses=job_statuses(asked) if asked else {})


def plan(
    runs: Sequence[RunConfig], study_folder: Path, jobs: Jobs | None = None, retry: Again = NO_RETRY
) -> list[Planned]:
    """Decide what to do with every run of a study, without doing it.

    Args:
        runs: of the study.
        study_folder: where they go.
        jobs: that the study has had, None where it has had none.
        retry: runs that are to be tried again.
    """
    known = jobs or Jobs(ledger=Ledger(study=study_folder))
    return [_plan_one(run, study_folder / "runs" / run.id, known, retry) for run in runs]


def _plan_one(run: RunConfig, folder: Path, jobs: Jobs, retry: Again) -> Planned:
    again = retry.holds(run.id, jobs)
    info = RunRecord(folder).read()
    # A job is still ending for some seconds after its record has said how the run ended.
    if info is not None and info.state is State.DONE:
        return Planned(run=run, folder=folder, action=Action.SKIP_DONE)
    ending = again or (info is not None and info.state is State.FAILED)
    at_work = None if ending else _at_work(run, folder, jobs)
    if at_work:
        return at_work
    failure = _failure(run, info, jobs)
    if failure and not again:
        return Planned(run=run, folder=folder, action=Action.SKIP_FAILED, reason=failure)
    begins = info is None or (again and retry.fresh)
    return Planned(run=run, folder=folder, action=Action.START if begins else Action.RESUME)


def _at_work(run: RunConfig, folder: Path, jobs: Jobs) -> Planned | None:
    found = jobs.latest(Kind.TRAIN, run.id)
    if found and found[1].phase is not Phase.ENDED:
        record, status = found
        action = Action.LEAVE_WAITING if status.phase is Phase.WAITING else Action.LEAVE
        return Planned(run=run, folder=folder, action=action, reason=f"job {record.job}")
    return Planned(run=run, folder=folder, action=Action.LEAVE) if is_held(folder) else None


def _failure(run: RunConfig, info: RunInfo | None, jobs: Jobs) -> str | None:
    """Why a run has failed: by its own record, or because its job ended without leaving one."""
    if info is not None and info.state is State.FAILED:
        return info.reason or "no reason recorded"
    found = jobs.latest(Kind.TRAIN, run.id)
    if found and found[1].state in ENDED_BADLY and found[0].job not in jobs.ledger.cancelled:
        return f"job {found[0].job} ended: {found[1].state}"
    return None
