"""How jobs stand, out of what squeue and sacct print. Pure: no command is called here."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

SEPARATOR = "\t"
"""Of the columns of squeue and sacct: it is in no job's name, reason or list of nodes."""
NAMES_NO_JOB = "Invalid job id specified"
"""What squeue says where none of the jobs asked for is in the queue."""

SQUEUE_FIELDS = (
    ("JobArrayID", 64),
    ("State", 20),
    ("Reason", 160),
    ("NodeList", 256),
    ("RestartCnt", 8),
    ("TimeUsed", 20),
    ("TimeLimit", 20),
    ("TimeLeft", 20),
    ("StartTime", 24),
    ("exit_code", 16),
)
"""With the width to which squeue cuts and fills each."""
SACCT_FIELDS = (
    "JobID",
    "State",
    "Reason",
    "NodeList",
    "ElapsedRaw",
    "TimelimitRaw",
    "ExitCode",
    "Submit",
    "DBIndex",
)


class Phase(StrEnum):
    """Where a job is between submission and end."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_REQUEUED = {"REQUEUED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"}
"""How starts end that accounting keeps a row of each for."""
_RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}


def phase_of(state: str) -> Phase:
    """The phase that one of SLURM's states belongs to.

    Args:
        state: SLURM's base word, as PENDING.
    """
    if state in _WAITING:
        return Phase.WAITING
    return Phase.RUNNING if state in _RUNNING else Phase.ENDED


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """How one job stands; times in seconds."""

    job: str
    """123, or 123_4 in an array."""
    state: str
    """SLURM's base word: PENDING, RUNNING, COMPLETED, OUT_OF_MEMORY, NODE_FAIL, ...; UNKNOWN where nobody knows it."""
    reason: str = ""
    """Why it waits, or how it came that it is not known."""
    nodes: str = ""
    """As SLURM lists them: n[1-4]."""
    restarts: int = 0
    earlier: tuple[str, ...] = ()
    """How its earlier starts ended, as PREEMPTED or NODE_FAIL, where accounting says."""
    elapsed_seconds: int | None = None
    """Since its present start."""
    limit_seconds: int | None = None
    """Of one start; None where there is no limit."""
    left_seconds: int | None = None
    """Of the limit."""
    exit_code: int | None = None
    """Of one that has ended."""
    signal: int | None = None
    """That ended it."""
    expected_start: datetime.datetime | None = None
    """Of a waiting one, where SLURM has planned it."""

    @property
    def phase(self) -> Phase:
        """Where it is between submission and end."""
        return phase_of(self.state)


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """What accounting knows."""

    jobs: Mapping[str, JobStatus]
    complaint: str = ""
    """Why accounting did not answer; empty where it did."""


def array_of(job: str) -> str:
    """The array, or the single job, that a job belongs to.

    Args:
        job: 123, 123_4 or 123_[4-9%2].
    """
    return job.split("_")[0]


def expand(job: str) -> list[str]:
    """The tasks that an id stands for.

    Args:
        job: 123, 123_4, 123_[1,4-9%2] or 123_[0-8:4].
    """
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job)
    if not match:
        return [job]
    tasks = (task for part in match[2].split(",") for task in _range(part))
    return [f"{match[1]}_{task}" for task in tasks]


def _range(part: str) -> Iterable[int]:
    span, _, step = part.partition(":")
    low, _, high = span.partition("-")
    return range(int(low), int(high or low) + 1, int(step or 1))


def compress(jobs: Iterable[str]) -> list[str]:
    """Few ids that stand for many jobs, tasks of an array together: 123_[1-3,7]; the opposite of `expand`.

    Args:
        jobs: 123 or 123_4.
    """
    arrays: dict[str, list[int]] = {}
    single: list[str] = []
    for job in dict.fromkeys(jobs):
        array, _, task = job.partition("_")
        if task.isdigit():
            arrays.setdefault(array, []).append(int(task))
        else:
            single.append(job)
    return [*single, *(f"{array}_[{_ranges(sorted(tasks))}]" for array, tasks in arrays.items())]


def _ranges(tasks: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for task in tasks:
        if spans and task == spans[-1][1] + 1:
            spans[-1][1] = task
        else:
            spans.append([task, task])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def _rows(text: str, columns: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(SEPARATOR)]
        # A heading of a cluster, or a warning, has no columns.
        if len(cells) >= columns and cells[0][:1].isdigit():
            yield cells


def parse_squeue(text: str) -> dict[str, JobStatus]:
    """The jobs of squeue's answer, pending arrays task by task.

    Args:
        text: columns as in `SQUEUE_FIELDS`, without headings.
    """
    found: dict[str, JobStatus] = {}
    for row in _rows(text, len(SQUEUE_FIELDS)):
        job, state, reason, nodes, restarts, used, limit, left, start, code = row[: len(SQUEUE_FIELDS)]
        ended = phase_of(state) is Phase.ENDED
        waiting = phase_of(state) is Phase.WAITING
        status = JobStatus(
            job=job,
            state=state,
            reason="" if reason == "None" else reason,
            nodes=nodes,
            restarts=int(restarts or 0),
            elapsed_seconds=None if waiting else clock(used),
            limit_seconds=clock(limit),
            left_seconds=None if ended else clock(left),
            exit_code=int(code) >> 8 if ended and code.isdigit() else None,
            signal=(int(code) & 0x7F) or None if ended and code.isdigit() else None,
            expected_start=_moment(start) if waiting else None,
        )
        found.update({task: replace(status, job=task) for task in expand(job)})
    return found


def parse_sacct(text: str) -> dict[str, JobStatus]:
    """The jobs of sacct's answer, each as its newest start left it, with the number of starts before that.

    Args:
        text: columns as in `SACCT_FIELDS`, without headings, with a row for each start of a job.
    """
    found: dict[str, JobStatus] = {}
    rows = list(_rows(text, len(SACCT_FIELDS)))
    # The row of an array stands for tasks that never started, and lags behind: a task's own row is the truer one.
    for row in sorted(rows, key=lambda row: ("[" not in row[0], _number(row[-2]), _number(row[-1]))):
        status = _account(row)
        for task in expand(status.job):
            before = found.get(task)
            earlier = (*before.earlier, before.state) if before and before.state in _REQUEUED else ()
            found[task] = replace(status, job=task, earlier=earlier, restarts=len(earlier))
    return found


def _account(row: Sequence[str]) -> JobStatus:
    job, words, reason, nodes, elapsed, limit, codes, _, _ = row
    state = words.split()[0] if words else "UNKNOWN"  # CANCELLED by 1000
    code, _, signal = codes.partition(":")
    ended = phase_of(state) is Phase.ENDED
    return JobStatus(
        job=job,
        state=state,
        reason="" if ended or reason == "None" else reason,
        nodes="" if nodes.startswith("None") else nodes,
        elapsed_seconds=_number(elapsed),
        limit_seconds=60 * _number(limit) or None,
        exit_code=_number(code) if ended else None,
        signal=_number(signal) or None,
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def clock(text: str) -> int | None:
    """Seconds of a time as squeue writes it: 5:03, 1:02:03, 1-02:03:04; None for UNLIMITED and the like.

    Args:
        text: of a column.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _moment(text: str) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(int(text), datetime.UTC) if text.isdigit() and int(text) else None


def combine(jobs: Sequence[str], queue: Mapping[str, JobStatus], accounts: Accounts) -> dict[str, JobStatus]:
    """How jobs stand, from the controller's and the accountant's words. The controller's are the fresher ones.

    Args:
        jobs: asked for.
        queue: what squeue said.
        accounts: what sacct said.
    """
    arrays = {array_of(job) for job in (*queue, *(job for job in accounts.jobs if not accounts.complaint))}
    return {job: _combined(job, queue.get(job), accounts, arrays) for job in jobs}


def _combined(job: str, queued: JobStatus | None, accounts: Accounts, arrays: set[str]) -> JobStatus:
    known = accounts.jobs.get(job)
    if queued:
        return replace(queued, earlier=known.earlier) if known else queued
    if accounts.complaint:
        return JobStatus(job=job, state="UNKNOWN", reason=f"no longer queued; {accounts.complaint}")
    if known and known.phase is Phase.ENDED:
        return known
    # A task that is cancelled on its own before it starts is gone from the queue, and from its array's row in
    # accounting, at the latest when that is next written.
    if (
        "_" in job
        and array_of(job) in arrays
        and (known is None or (known.phase is Phase.WAITING and not known.restarts))
    ):
        return JobStatus(job=job, state="CANCELLED", reason="before it started")
    seen = f"{known.state} in accounting, but not in the queue" if known else "not in the queue, nor in accounting"
    return JobStatus(job=job, state="UNKNOWN", reason=seen)
