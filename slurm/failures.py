"""Failed runs and evaluations of a study, grouped by cause, with the last useful lines of their logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prx_scale.runs.info import State
from slurm.causes import BY_STATE, RANK, Cause, cause_of_reason, rank_of_reason
from slurm.evidence import Found, Log, root
from slurm.ledger import Executor, JobRecord, Kind
from slurm.logs import LogFile, folder_logs, job_logs, tail
from slurm.status import StudyStatus

MOST_FILES = 2000
"""Logs that are read at most: what is left is told apart by records and SLURM's words alone."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one run, or the evaluation of one, failed."""

    run: str
    """Its id; `evaluate ID` for an evaluation, `report` for the report."""
    kind: Kind
    """Of the job that failed."""
    cause: Cause
    lines: tuple[str, ...]
    """The last useful ones."""
    log: str | None
    """Where they stand, from the study folder."""


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Failures of one cause; lines and log are those of the first."""

    cause: Cause
    failures: tuple[Failure, ...]

    @property
    def runs(self) -> list[str]:
        """Which failed so."""
        return [failure.run for failure in self.failures]

    @property
    def heading(self) -> str:
        """As in `2 runs failed: bad data`."""
        jobs = sum(failure.kind is not Kind.TRAIN for failure in self.failures)
        numbers = {"run": len(self.failures) - jobs, "later job": jobs}
        words = (f"{number} {name}{'s' if number > 1 else ''}" for name, number in numbers.items() if number)
        return f"{' and '.join(words)} failed: {self.cause}"

    def to_json(self) -> dict[str, Any]:
        """The group as JSON types."""
        first = asdict(self.failures[0])
        shown = {key: first[key] for key in ("lines", "log")}
        return {"cause": self.cause.value, "runs": self.runs, **shown, "advice": self.cause.advice}


def diagnose(job_state: str | None, reason: str | None, found: Found | None) -> tuple[Cause, tuple[str, ...]]:
    """Why a run failed, and what shows it.

    Args:
        job_state: SLURM's word for its job; None where it had none.
        reason: in the run's record.
        found: what its logs say.

    Returns:
        The cause that explains the others, and lines.
    """
    by_state = BY_STATE.get(job_state or "", Cause.UNKNOWN)
    by_reason = cause_of_reason(reason) if reason else Cause.UNKNOWN
    by_logs = found.sign.cause if found else Cause.UNKNOWN
    cause = min(by_state, by_reason, by_logs, key=RANK.__getitem__)
    said = (reason,) if reason else ()
    if found is None:
        return cause, said
    if by_logs is cause:
        return cause, found.sign.lines
    return cause, said if by_logs is Cause.UNKNOWN and said else (*said, *found.sign.lines)


def failure_groups(study: Path, status: StudyStatus) -> list[FailureGroup]:
    """The failures of a study by cause, the most frequent first.

    Args:
        study: the study folder.
        status: of it.
    """
    reader = _Reader(study)
    failures = [*_of_runs(study, status, reader), *_of_evaluations(status, reader)]
    groups: dict[tuple[Cause, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.cause, _signature(failure)), []).append(failure)
    found = [FailureGroup(cause=cause, failures=tuple(each)) for (cause, _), each in groups.items()]
    return sorted(found, key=lambda group: -len(group.failures))


def _signature(failure: Failure) -> str:
    """What unknown causes are told apart by: what was said, without its numbers."""
    if failure.cause is not Cause.UNKNOWN or not failure.lines:
        return ""
    return re.sub(r"0x[0-9a-f]+|\d+", "0", failure.lines[-1])


def _of_runs(study: Path, status: StudyStatus, reader: _Reader) -> Iterator[Failure]:
    for run in status.runs:
        if run.state != State.FAILED.value:
            continue
        record = status.jobs.ledger.latest(Kind.TRAIN, run.run)
        job = status.jobs.statuses.get(record.job) if record else None
        found = reader.root(record, study / "runs" / run.run, rank_of_reason(run.reason or ""))
        yield _failure(run.run, Kind.TRAIN, job.state if job else None, run.reason, found, study)


def _of_evaluations(status: StudyStatus, reader: _Reader) -> Iterator[Failure]:
    for record in (record for each in status.following for record in each.failed):
        state = status.jobs.statuses[record.job].state
        name = f"{record.kind} {record.run}" if record.run else record.kind.value
        yield _failure(name, record.kind, state, None, reader.root(record, None, None), reader.study)


def _failure(run: str, kind: Kind, state: str | None, reason: str | None, found: Found | None, study: Path) -> Failure:
    cause, lines = diagnose(state, reason, found)
    log = str(Path(found.log.name).relative_to(study)) if found else None
    return Failure(run=run, kind=kind, cause=cause, lines=lines, log=log)


class _Reader:
    """Reads the ends of logs, and not more of them than is quick."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.left = MOST_FILES

    def root(self, record: JobRecord | None, folder: Path | None, first: int | None) -> Found | None:
        """What the logs of a run say: first the errors, and where they say nothing, the rest."""
        files = job_logs(self.study, record) if record else []
        errors = [file for file in files if file.stream == "err"]
        found = root(self._read(errors), first)
        if found and found.sign.cause is not Cause.UNKNOWN:
            return found
        rest = [file for file in files if file.stream == "out"]
        local = folder is not None and (record is None or record.executor is Executor.LOCAL)
        others = folder_logs(folder) if folder and local else []
        more = root(self._read([*rest, *(file for file in others if file not in rest)]), first)
        if more and (found is None or more.sign.cause is not Cause.UNKNOWN):
            return more
        return found

    def _read(self, files: Sequence[LogFile]) -> list[Log]:
        read = files[: max(0, self.left)]
        self.left -= len(read)
        return [Log(name=str(file.path), rank=file.rank, text=tail(file.path)) for file in read]


def shortened_runs(runs: Sequence[str], most: int = 4) -> str:
    """Some ids, and how many more there are.

    Args:
        runs: their ids.
        most: that are named.
    """
    if len(runs) <= most:
        return ", ".join(runs)
    return f"{', '.join(runs[: most - 1])} and {len(runs) - most + 1} more"


def counted_states(status: StudyStatus) -> str:
    """How many runs are in each state, as in `12 done, 3 running`.

    Args:
        status: of a study.
    """
    counts = Counter(run.state for run in status.runs)
    return ", ".join(f"{number} {state}" for state, number in counts.most_common())
