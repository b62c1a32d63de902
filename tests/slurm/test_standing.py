"""How a run stands, by its record and its job; and the jobs that follow."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from prx_scale.runs.info import State
from slurm.following import following
from slurm.jobstatus import JobStatus
from slurm.ledger import Executor, JobRecord, Kind, Ledger
from slurm.plan import Jobs
from slurm.standing import Standing, standing


def job(state: str, **fields: Any) -> JobStatus:
    return JobStatus(job="7_1", state=state, **fields)


CASES: list[tuple[State | None, str | None, JobStatus | None, Standing]] = [
    (None, None, None, Standing(state="pending")),
    (State.RUNNING, None, None, Standing(state="killed")),
    (State.INTERRUPTED, "a signal", None, Standing(state="interrupted", reason="a signal")),
    (None, None, job("PENDING", reason="Priority"), Standing(state="waiting", reason="Priority")),
    (
        State.RUNNING,
        None,
        job("PENDING", reason="BeginTime", restarts=2),
        Standing(state="waiting", reason="requeued, restart 2: BeginTime"),
    ),
    (State.INTERRUPTED, "saved", job("PENDING", restarts=1), Standing(state="waiting", reason="requeued, restart 1")),
    (State.FAILED, "to be tried again", job("PENDING"), Standing(state="waiting", reason="queued")),
    (None, None, job("RUNNING"), Standing(state="running", reason="starting")),
    (State.INTERRUPTED, "saved", job("RUNNING", restarts=3), Standing(state="running", reason="starting, restart 3")),
    (State.RUNNING, None, job("RUNNING"), Standing(state="running")),
    (State.RUNNING, None, job("COMPLETING"), Standing(state="running", reason="completing")),
    (State.FAILED, "not finite", job("RUNNING"), Standing(state="failed", reason="not finite")),
    (State.DONE, None, job("COMPLETING"), Standing(state="done")),
    (State.DONE, None, job("TIMEOUT"), Standing(state="done")),
    (State.RUNNING, None, job("NODE_FAIL"), Standing(state="failed", reason="job 7_1 ended: NODE_FAIL")),
    (State.RUNNING, None, job("OUT_OF_MEMORY"), Standing(state="failed", reason="job 7_1 ended: OUT_OF_MEMORY")),
    (None, None, job("FAILED", exit_code=1), Standing(state="failed", reason="job 7_1 ended: FAILED, exit code 1")),
    (
        State.INTERRUPTED,
        "rank 1 died",
        job("FAILED", exit_code=0, signal=9),
        Standing(state="failed", reason="job 7_1 ended: FAILED, signal 9; before that: rank 1 died"),
    ),
    (State.FAILED, "out of memory", job("FAILED"), Standing(state="failed", reason="out of memory")),
    (State.INTERRUPTED, "saved", job("CANCELLED"), Standing(state="cancelled", reason="job 7_1 was cancelled")),
    (State.RUNNING, None, job("COMPLETED"), Standing(state="killed", reason="job 7_1 ended: COMPLETED")),
    (State.INTERRUPTED, "saved", job("PREEMPTED"), Standing(state="interrupted", reason="saved")),
    (State.RUNNING, None, job("UNKNOWN", reason="gone"), Standing(state="killed", reason="job 7_1: gone")),
]


@pytest.mark.parametrize(("recorded", "reason", "its_job", "expected"), CASES)
def test_record_and_job(
    recorded: State | None, reason: str | None, its_job: JobStatus | None, expected: Standing
) -> None:
    assert standing(recorded, reason, its_job) == expected


def test_what_was_cancelled_here_has_not_failed() -> None:
    found = standing(State.INTERRUPTED, "saved", job("FAILED", exit_code=130), cancelled=True)
    assert found == Standing(state="cancelled", reason="job 7_1 was cancelled")


def test_a_process_that_is_there_is_running_whatever_the_record_says() -> None:
    assert standing(State.RUNNING, None, None, held=True) == Standing(state="running")
    assert standing(None, None, None, held=True) == Standing(state="running", reason="starting")


def test_expected_start_is_told() -> None:
    start = datetime.datetime(2026, 11, 24, 19, 54, tzinfo=datetime.UTC)
    found = standing(None, None, job("PENDING", reason="Resources", expected_start=start))
    assert found.reason == f"Resources, expected {start.astimezone():%m-%d %H:%M}"


def record(job_id: str, kind: Kind, run: str | None) -> JobRecord:
    return JobRecord(job=job_id, kind=kind, executor=Executor.SLURM, run=run, logs=f"jobs/{job_id}")


def test_jobs_that_follow_are_counted_and_the_report_says_what_it_waits_for(tmp_path: Path) -> None:
    runs = ("a", "b", "c")
    records = [record(f"1_{index}", Kind.TRAIN, run) for index, run in enumerate(runs)]
    records += [record(f"{index + 2}", Kind.EVALUATE, run) for index, run in enumerate(runs)]
    records.append(record("9", Kind.REPORT, None))
    states = {"1_0": "COMPLETED", "1_1": "RUNNING", "1_2": "PENDING", "2": "COMPLETED", "3": "PENDING", "4": "FAILED"}
    statuses = {job: JobStatus(job=job, state=state) for job, state in states.items()}
    statuses["9"] = JobStatus(job="9", state="PENDING", reason="Dependency")
    found = following(Jobs(ledger=Ledger(study=tmp_path, jobs=tuple(records)), statuses=statuses), tmp_path)
    assert [each.line for each in found] == [
        "evaluate: 1 waiting, 1 done, 1 failed",
        "report: 1 waiting (job 9 waits for 2 training jobs and 1 evaluation)",
    ]
    assert [each.job for each in found[0].failed] == ["4"] and found[0].active


def test_without_slurms_answer_jobs_that_follow_are_submitted(tmp_path: Path) -> None:
    ledger = Ledger(study=tmp_path, jobs=(record("2", Kind.EVALUATE, "a"), record("9", Kind.REPORT, None)))
    found = following(Jobs(ledger=ledger), tmp_path)
    assert [each.line for each in found] == ["evaluate: 1 submitted", "report: 1 submitted (job 9)"]
    assert not any(each.active for each in found)
