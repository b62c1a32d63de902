"""The table of `prx-scale status` at any width, and failures by cause with the end of their logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale.commands.status_output import failures, of_interest, summary, table
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from slurm.causes import Cause
from slurm.failures import failure_groups
from slurm.jobstatus import JobStatus
from slurm.ledger import Executor, JobRecord, Kind, note_jobs, read_ledger
from slurm.plan import Jobs
from slurm.status import RunStatus, StudyStatus, study_status
from tests.prx_scale.runs.records import make_info, train_row
from tests.slurm.test_causes import logs_of

ROW = RunStatus(
    run="d38-s0-0a1b2c3d",
    variant="base",
    depth=38,
    seed=0,
    params=8_020_000_000,
    state="running",
    step=40_000,
    steps=100_000,
    loss=0.4321,
    samples_per_second=2310.0,
    mfu=0.412,
    restarts=2,
    seconds_left=26_000,
    limit_seconds_left=4000,
    where="gpu[017-024]",
    job="812345_4",
    reason=None,
)
FAILED = replace(ROW, run="d30-s0-4d5e6f70", state="failed", reason="OutOfMemoryError: CUDA out of memory. Tried to do")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    lines = [line.plain for line in table([ROW, FAILED], width)]
    assert len(lines) == 3 and all(len(line) <= width for line in lines)
    assert "d38-s0-0a1b2c3d" in lines[1] and "running" in lines[1] and "40000/100000" in lines[1]


def test_columns_go_by_importance() -> None:
    headings = {width: table([ROW, FAILED], width)[0].plain.split() for width in (60, 80, 120, 200)}
    assert headings[200][:4] == ["run", "depth", "params", "state"] and headings[200][-1] == "reason"
    assert set(headings[60]) < set(headings[80]) < set(headings[120]) < set(headings[200])
    assert {"loss", "left", "reason"} <= set(headings[80])


def test_into_a_file_nothing_is_cut() -> None:
    lines = [line.plain for line in table([FAILED], None)]
    assert lines[1].endswith("OutOfMemoryError: CUDA out of memory. Tried to do")
    assert "812345_4" in lines[1] and "41.2%" in lines[1] and "1h06" in lines[1]


def test_columns_without_content_are_left_out() -> None:
    waiting = replace(ROW, state="waiting", loss=None, mfu=None, samples_per_second=None, restarts=0, where="")
    headings = table([waiting], None)[0].plain.split()
    assert not {"loss", "MFU", "images/s", "restarts", "where", "reason"} & set(headings)


def test_what_is_at_work_is_shown_first_where_not_all_fits() -> None:
    rows = [replace(ROW, run=f"r{n}", state=state) for n, state in enumerate(["done"] * 50 + ["running", "failed"])]
    shown, hidden = of_interest(rows, 4)
    assert [row.run for row in shown] == ["r0", "r1", "r50", "r51"] and hidden == 48
    assert of_interest(rows, 100) == (rows, 0)


def failing_study(folder: Path, logs: dict[str, str]) -> StudyStatus:
    """A study whose jobs failed, each with logs from `logs/`."""
    records = [
        JobRecord(
            job=f"7_{index}",
            kind=Kind.TRAIN,
            executor=Executor.SLURM,
            run=run,
            logs=f"jobs/x/7_{index}",
            ntasks_per_node=2,
        )
        for index, run in enumerate(logs)
    ]
    note_jobs(folder, records)
    (folder / "jobs" / "x").mkdir()
    statuses: dict[str, JobStatus] = {}
    for record, (run, name) in zip(records, logs.items(), strict=True):
        RunRecord(folder / "runs" / run).write(make_info(run, state=State.RUNNING))
        RunRecord(folder / "runs" / run).append(train_row(3))
        statuses[record.job] = JobStatus(job=record.job, state="FAILED", exit_code=1, nodes="n1")
        for log in logs_of(name):
            (folder / f"{record.logs}_{log.rank}_log.err").write_text(log.text)
    asked = study_status(folder, ask_slurm=False)
    jobs = Jobs(ledger=read_ledger(folder), statuses=statuses)
    rows = tuple(replace(row, state="failed", reason=f"job {row.job} ended: FAILED, exit code 1") for row in asked.runs)
    return replace(asked, runs=rows, jobs=jobs, warning=None)


def test_failures_are_grouped_by_cause(tmp_path: Path) -> None:
    logs = {"d1-a": "bad_image", "d2-a": "lone_failure", "d3-a": "truncated_image", "d4-a": "gloo_timeout"}
    logs |= {"d5-a": "segfault"}
    status = failing_study(tmp_path, logs)
    groups = failure_groups(tmp_path, status)
    found = {group.cause: sorted(group.runs) for group in groups}
    assert found == {
        Cause.BAD_DATA: ["d1-a", "d2-a", "d3-a"],
        Cause.COMMUNICATION: ["d4-a"],
        Cause.UNKNOWN: ["d5-a"],
    }
    assert groups[0].cause is Cause.BAD_DATA
    lines = [line.plain for line in failures(groups)]
    assert "3 runs failed: bad data" in lines and "1 run failed: communication timed out" in lines
    assert "  d1-a, d2-a, d3-a" in lines
    assert f"  {Cause.BAD_DATA.advice}" in lines
    assert any(line.startswith("    PIL.UnidentifiedImageError: cannot identify") for line in lines)
    (log,) = (failure.log for failure in groups[0].failures if failure.run == "d2-a")
    assert log == "jobs/x/7_1_1_log.err"
    assert (tmp_path / log).exists()


def test_unknown_causes_are_told_apart_by_what_was_said(tmp_path: Path) -> None:
    status = failing_study(tmp_path, {"a": "segfault", "b": "segfault", "c": "segfault"})
    log = tmp_path / "jobs" / "x" / "7_2_0_log.err"
    log.write_text("=== job 7_2, first start, rank 0 on n1, now\nsomething new\n")
    assert sorted(len(group.failures) for group in failure_groups(tmp_path, status)) == [1, 2]


def test_a_local_run_is_explained_by_its_console(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "d1-s0-00000000"
    RunRecord(run).write(make_info(state=State.FAILED, reason="RuntimeError: it broke"))
    (run / "console.log").write_text(logs_of("disk_write")[0].text)
    (group,) = failure_groups(tmp_path, study_status(tmp_path))
    assert (group.cause, group.failures[0].log) == (Cause.DISK, "runs/d1-s0-00000000/console.log")


def test_a_study_whose_jobs_cannot_be_asked_about_stands_as_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "d1-s0-00000000"
    RunRecord(tmp_path / "runs" / run).write(make_info(run))
    note_jobs(tmp_path, [JobRecord(job="7", kind=Kind.TRAIN, executor=Executor.SLURM, run=run, logs="x")])
    monkeypatch.setenv("PATH", "/nowhere")
    status = study_status(tmp_path)
    # Not "killed": the lock of a process on another node need not be known here.
    assert [(row.state, row.job) for row in status.runs] == [("running", "7")]
    assert status.warning and "no SLURM on this machine" in [line.plain for line in summary(status)][-1]
    assert "not asked" in (study_status(tmp_path, ask_slurm=False).warning or "")
