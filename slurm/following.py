"""How the jobs stand that come after training: evaluations, the report, the next launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slurm.jobstatus import JobStatus, Phase
from slurm.ledger import JobRecord, Kind
from slurm.plan import ENDED_BADLY, Jobs
from slurm.standing import CANCELLED, WAITING, ended_as, waits_for

ORDER = (WAITING, "running", "done", "failed", CANCELLED, "ended", "submitted")


@dataclass(frozen=True, kw_only=True)
class Following:
    """The jobs of a kind."""

    kind: Kind
    counts: Mapping[str, int]
    """By state."""
    note: str = ""
    """What the job waits for, or how it ended; of kinds that have one job a study."""
    failed: tuple[JobRecord, ...] = field(default=(), repr=False)

    @property
    def active(self) -> bool:
        """Whether one is at work or waits to be."""
        return any(self.counts.get(state, 0) for state in (WAITING, "running"))

    @property
    def line(self) -> str:
        """As in `evaluate: 3 done, 2 waiting, 1 failed`."""
        counts = ", ".join(f"{self.counts[state]} {state}" for state in ORDER if self.counts.get(state))
        return f"{self.kind}: {counts}{f' ({self.note})' if self.note else ''}"


def following(jobs: Jobs, study: Path) -> tuple[Following, ...]:
    """How the jobs stand that come after training.

    Args:
        jobs: of the study.
        study: the study folder.
    """
    found = (_of_kind(kind, jobs, study) for kind in (Kind.EVALUATE, Kind.REPORT, Kind.LAUNCH))
    return tuple(each for each in found if each)


def _of_kind(kind: Kind, jobs: Jobs, study: Path) -> Following | None:
    records = [record for record in jobs.ledger.on_slurm() if record.kind is kind]
    if not records:
        return None
    states = {record.job: _state(record, jobs) for record in records}
    one = records[-1]
    return Following(
        kind=kind,
        counts=Counter(states.values()),
        note="" if kind is Kind.EVALUATE else _note(one, jobs, study),
        failed=tuple(record for record in records if states[record.job] == "failed"),
    )


def _state(record: JobRecord, jobs: Jobs) -> str:
    job = jobs.statuses.get(record.job)
    if job is None:
        return "submitted"
    if job.phase is not Phase.ENDED:
        return WAITING if job.phase is Phase.WAITING else "running"
    if record.job in jobs.ledger.cancelled or job.state == "CANCELLED":
        return CANCELLED
    if job.state == "COMPLETED":
        return "done"
    return "failed" if job.state in ENDED_BADLY else "ended"


def _note(record: JobRecord, jobs: Jobs, study: Path) -> str:
    job = jobs.statuses.get(record.job)
    if job is None:
        return f"job {record.job}"
    if job.phase is Phase.WAITING:
        return f"job {record.job} waits for {_waits_for(job, jobs)}"
    if job.state == "COMPLETED" and record.kind is Kind.REPORT:
        return str(study / "report.html")
    return f"job {record.job}" if job.phase is Phase.RUNNING or job.state == "COMPLETED" else ended_as(job)


def _waits_for(job: JobStatus, jobs: Jobs) -> str:
    if job.reason != "Dependency":
        return waits_for(job)
    ahead = Counter(
        record.kind
        for record in jobs.ledger.on_slurm()
        if record.kind in (Kind.TRAIN, Kind.EVALUATE) and _state(record, jobs) in (WAITING, "running")
    )
    words = {Kind.TRAIN: "training job", Kind.EVALUATE: "evaluation"}
    named = (f"{n} {words[kind]}{'s' if n > 1 else ''}" for kind, n in sorted(ahead.items(), reverse=True))
    return " and ".join(named) or "jobs that end now"
