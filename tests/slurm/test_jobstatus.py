"""What squeue and sacct print, read: the files are the words of a real controller and accounting daemon, 22.05.8."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from slurm.controller import environment, least_submit
from slurm.jobstatus import (
    Accounts,
    JobStatus,
    Phase,
    clock,
    combine,
    compress,
    expand,
    parse_sacct,
    parse_squeue,
    phase_of,
)

CAPTURED = Path(__file__).parent / "captured"
SQUEUE = (CAPTURED / "squeue.txt").read_text()
"""An array 209 of six tasks, at most two at work: task 0 requeued, task 5 cancelled on its own before it started; 212
failed, 213 depends on the array, 214 is held, 215 was cancelled."""
SACCT = (CAPTURED / "sacct.txt").read_text()
"""These, and older ones: 11 and 14 ended, 12 an array of which tasks were preempted and task 5 cancelled on its own, 13
requeued when a node died."""


@pytest.mark.parametrize(
    ("job", "tasks"),
    [
        ("123", ["123"]),
        ("123_4", ["123_4"]),
        ("123_[4-6%2]", ["123_4", "123_5", "123_6"]),
        ("123_[1,4-5,9]", ["123_1", "123_4", "123_5", "123_9"]),
        ("123_[0-8:4]", ["123_0", "123_4", "123_8"]),
        ("123_[0-3,5,7,9,11,13,...]", ["123_[0-3,5,7,9,11,13,...]"]),
    ],
)
def test_ids_of_pending_arrays_are_expanded(job: str, tasks: list[str]) -> None:
    assert expand(job) == tasks


def test_ids_are_compressed_into_arrays() -> None:
    jobs = ["7", "12_3", "12_4", "12_5", "12_9", "13_0", "7"]
    assert compress(jobs) == ["7", "12_[3-5,9]", "13_[0]"]
    assert sorted(task for word in compress(jobs) for task in expand(word)) == sorted(set(jobs))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:05", 5), ("28:59", 1739), ("1:00:01", 3601), ("2-03:04:05", 183_845), ("UNLIMITED", None), ("INVALID", None)],
)
def test_times(text: str, seconds: int | None) -> None:
    assert clock(text) == seconds


def test_states_have_a_phase() -> None:
    assert {phase_of(state) for state in ("PENDING", "REQUEUED", "SPECIAL_EXIT")} == {Phase.WAITING}
    assert {phase_of(state) for state in ("RUNNING", "COMPLETING", "SUSPENDED")} == {Phase.RUNNING}
    assert {phase_of(state) for state in ("COMPLETED", "NODE_FAIL", "UNKNOWN", "PREEMPTED")} == {Phase.ENDED}


def test_squeue() -> None:
    jobs = parse_squeue(SQUEUE)
    assert "209_5" not in jobs and len(jobs) == 11
    assert jobs["209_1"] == JobStatus(
        job="209_1", state="RUNNING", nodes="n1", elapsed_seconds=10, limit_seconds=1800, left_seconds=1790
    )
    requeued = jobs["209_0"]
    assert (requeued.phase, requeued.restarts, requeued.reason) == (Phase.WAITING, 1, "JobArrayTaskLimit")
    failed, cancelled = jobs["212"], jobs["215"]
    assert (failed.state, failed.exit_code, failed.signal) == ("FAILED", 3, None)
    assert (cancelled.state, cancelled.exit_code, cancelled.signal) == ("CANCELLED", 0, 15)
    assert jobs["214_2"].reason == "JobHeldUser" and jobs["213"].limit_seconds is None


def test_without_a_line_for_each_task_squeue_hides_restarts() -> None:
    """Why it is asked for them."""
    together = parse_squeue((CAPTURED / "squeue_without_array.txt").read_text())
    assert set(together) == set(parse_squeue(SQUEUE))
    assert together["209_0"].restarts == 0


def test_expected_start_of_a_waiting_job() -> None:
    line = "7\tPENDING\tResources\t\t0\t0:00\t30:00\t30:00\t1795550040\t0\t"
    expected = datetime.datetime(2026, 11, 24, 19, 54, tzinfo=datetime.UTC)
    assert parse_squeue(line)["7"].expected_start == expected


def test_sacct_gives_the_newest_start_and_how_those_before_ended() -> None:
    jobs = parse_sacct(SACCT)
    assert (jobs["12_1"].state, jobs["12_1"].restarts, jobs["12_1"].earlier) == ("COMPLETED", 1, ("PREEMPTED",))
    assert (jobs["13"].state, jobs["13"].earlier) == ("CANCELLED", ("NODE_FAIL",))
    assert jobs["13"].nodes == "n[1-2]"
    assert (jobs["209_0"].state, jobs["209_0"].restarts) == ("PENDING", 1)
    # The array's row says that tasks 3 to 5 were cancelled; task 4 has a row of its own.
    assert (jobs["12_4"].state, jobs["12_5"].state) == ("COMPLETED", "CANCELLED")
    assert (jobs["11"].state, jobs["11"].limit_seconds, jobs["11"].elapsed_seconds) == ("TIMEOUT", 60, 60)
    assert (jobs["212"].exit_code, jobs["212"].signal, jobs["212"].limit_seconds) == (3, None, 300)


def test_the_controller_is_believed_first() -> None:
    accounts = Accounts(jobs=parse_sacct(SACCT))
    jobs = combine(["209_0", "209_1", "11", "12_2"], parse_squeue(SQUEUE), accounts)
    assert (jobs["209_0"].restarts, jobs["209_0"].earlier) == (1, ("REQUEUED",))
    assert jobs["209_1"].left_seconds == 1790
    assert (jobs["11"].state, jobs["12_2"].state) == ("TIMEOUT", "COMPLETED")


def test_a_task_that_was_cancelled_on_its_own_is_forgotten_but_told_apart() -> None:
    jobs = combine(["209_5", "777_5", "777"], parse_squeue(SQUEUE), Accounts(jobs=parse_sacct(SACCT)))
    assert (jobs["209_5"].state, jobs["209_5"].phase) == ("CANCELLED", Phase.ENDED)
    assert (jobs["777_5"].state, jobs["777"].state) == ("UNKNOWN", "UNKNOWN")


def test_an_array_row_that_lags_behind_does_not_keep_a_cancelled_task_waiting() -> None:
    row = "209_[3-5%2]\tPENDING\tNone\tNone assigned\t0\t30\t0:0\t1795549251\t282"
    jobs = combine(["209_5"], parse_squeue(SQUEUE), Accounts(jobs=parse_sacct(row)))
    assert jobs["209_5"].state == "CANCELLED"


def test_what_only_accounting_takes_for_alive_is_not() -> None:
    jobs = combine(["209_1", "213"], {}, Accounts(jobs=parse_sacct(SACCT)))
    assert {job.state for job in jobs.values()} == {"UNKNOWN"}
    assert "RUNNING in accounting" in jobs["209_1"].reason


def test_without_accounting_what_left_the_queue_is_unknown_and_says_why() -> None:
    accounts = Accounts(jobs={}, complaint="Slurm accounting storage is disabled")
    jobs = combine(["209_1", "11", "209_5"], parse_squeue(SQUEUE), accounts)
    assert [jobs[job].state for job in ("209_1", "11", "209_5")] == ["RUNNING", "UNKNOWN", "UNKNOWN"]
    assert "accounting storage is disabled" in jobs["11"].reason


ASSOCIATIONS = "||50|\nshort||8|\n"
QOS = "normal|40||\nlong|5||\ndebug|||\n"


@pytest.mark.parametrize(
    ("chosen", "least"),
    [
        ({}, 8),
        ({"partition": "main"}, 40),
        ({"partition": "short"}, 8),
        ({"partition": "main", "qos": "long"}, 5),
        ({"partition": "main", "qos": "debug"}, 50),
    ],
)
def test_the_least_limit_of_submitted_jobs_counts(chosen: dict[str, str], least: int) -> None:
    assert least_submit(ASSOCIATIONS, QOS, chosen) == least


def test_no_limit_of_submitted_jobs() -> None:
    assert least_submit("|||\n", "normal|||\n", {}) is None


def test_variables_of_a_job_do_not_reach_slurms_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {
        "SLURM_JOB_ID": "5",
        "SLURM_NTASKS": "8",
        "SQUEUE_FORMAT": "%i",
        "SACCT_FORMAT": "user",
        "HOME": "/home/ada",
    }
    for name, value in {**mine, "SLURM_CONF": "/etc/slurm/slurm.conf", "SBATCH_ACCOUNT": "lab"}.items():
        monkeypatch.setenv(name, value)
    names = {name for name in environment() if name.startswith(("SLURM", "SQUEUE", "SACCT", "SBATCH"))}
    assert names == {"SLURM_CONF", "SBATCH_ACCOUNT", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN"}
    assert environment()["HOME"] == "/home/ada"
