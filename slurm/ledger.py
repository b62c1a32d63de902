"""Which jobs a study has had: `<study>/jobs/jobs.jsonl`, one row a job that was started or cancelled, never changed."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError
from prx_scale.runs.clock import now
from prx_scale.runs.files import append_lines, drop_torn_tail, read_rows


class Kind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    REPORT = "report"
    LAUNCH = "launch"
    """Submits what did not fit under the cluster's limit of jobs."""


class Executor(StrEnum):
    """Where a job runs."""

    LOCAL = "local"
    SLURM = "slurm"


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job that was submitted to SLURM, or a process that was started on a machine."""

    job: str
    """SLURM's id, 123 or 123_4 in an array; host:pid of a process."""
    kind: Kind
    executor: Executor
    run: str | None
    """The run that it trains or evaluates."""
    logs: str
    """What its logs' names begin with, from the study folder: `<logs>_<rank>_log.out` and `.err`; the whole name of
    a process's."""
    nodes: int = 1
    ntasks_per_node: int = 1
    gpus_per_node: int = 0
    minutes: int | None = None
    """Time limit of one start."""
    code: str | None = None
    """Snapshot of the code that it runs, from the study folder."""
    user: str = ""
    host: str = ""
    """Where it was submitted."""
    submitted: str = ""

    @property
    def array(self) -> str:
        """The job or array that it belongs to."""
        return self.job.split("_")[0]


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The jobs of a study, in the order in which they were submitted."""

    study: Path
    jobs: tuple[JobRecord, ...] = ()
    cancelled: frozenset[str] = frozenset()
    """Jobs that were cancelled through this package, or replaced by later ones."""

    def latest(self, kind: Kind, run: str | None) -> JobRecord | None:
        """The last job of a kind that a run has had.

        Args:
            kind: of job.
            run: its id; None for jobs of the whole study.
        """
        return self._latest.get((kind, run))

    @cached_property
    def _latest(self) -> dict[tuple[Kind, str | None], JobRecord]:
        return {(job.kind, job.run): job for job in self.jobs}

    def on_slurm(self) -> list[JobRecord]:
        """The last job of each kind and run that SLURM knows."""
        return [job for job in self._latest.values() if job.executor is Executor.SLURM]


def ledger_path(study: Path) -> Path:
    """The file.

    Args:
        study: the study folder.
    """
    return study / "jobs" / "jobs.jsonl"


def read_ledger(study: Path) -> Ledger:
    """The jobs that a study has had; none where it was never launched.

    Args:
        study: the study folder.

    Raises:
        InputError: a row is not of this version.
    """
    path = ledger_path(study)
    jobs: dict[str, JobRecord] = {}
    cancelled: set[str] = set()
    for number, row in enumerate(read_rows(path), start=1):
        if "cancelled" in row:
            cancelled.add(str(row["cancelled"]))
            continue
        record = _record(row, f"{path}, line {number}")
        jobs[record.job] = record
        cancelled.discard(record.job)
    return Ledger(study=study, jobs=tuple(jobs.values()), cancelled=frozenset(cancelled))


def _record(row: dict[str, Any], where: str) -> JobRecord:
    known: dict[str, Any] = {item.name: row[item.name] for item in fields(JobRecord) if item.name in row}
    try:
        known |= {"kind": Kind(row["kind"]), "executor": Executor(row["executor"])}
        return JobRecord(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not a job of this version ({error})") from error


def signed(record: JobRecord) -> dict[str, Any]:
    """A row with who submitted it, where and when.

    Args:
        record: of the job.
    """
    row = asdict(record)
    return {**row, "user": getpass.getuser(), "host": socket.gethostname(), "submitted": now()}


def note_jobs(study: Path, records: Sequence[JobRecord]) -> None:
    """Add jobs.

    Args:
        study: the study folder.
        records: of the jobs.
    """
    drop_torn_tail(ledger_path(study))
    append_lines(ledger_path(study), [signed(record) for record in records])


def note_cancelled(study: Path, jobs: Iterable[str]) -> None:
    """Add that jobs were cancelled.

    Args:
        study: the study folder.
        jobs: their ids.
    """
    drop_torn_tail(ledger_path(study))
    rows = [{"cancelled": job, "user": getpass.getuser(), "time": now()} for job in jobs]
    append_lines(ledger_path(study), rows)
