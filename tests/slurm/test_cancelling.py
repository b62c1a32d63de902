"""Processes of this machine: found, checked before they are signalled, and left alone where they are others'."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prx_scale.errors import InputError
from prx_scale.locks import is_held, only_one
from slurm.cancelling import active_jobs, cancel_here, chosen_runs
from slurm.jobstatus import JobStatus
from slurm.ledger import Executor, JobRecord, Kind, Ledger, note_jobs, read_ledger
from slurm.local import PARENT_VARIABLE
from slurm.plan import Jobs
from slurm.processes import Process, holder, is_ours, launcher_of, parse_process, works_on

RUN = "d1-s0-00000000"
ROOT = Path(__file__).parents[2]
HOLD = """
import signal, sys, time
from pathlib import Path
from prx_scale.locks import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that end with the test."""
    started: list[subprocess.Popen[str]] = []

    def go(
        *words: str, code: str = "import time; print('up', flush=True); time.sleep(60)", parent: int = 0
    ) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), PARENT_VARIABLE: str(parent)}
        command = [sys.executable, "-c", code, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()


def here(pid: int) -> Process:
    return Process(host=socket.gethostname(), pid=pid)


def listed(study: Path, job: str, run: str = RUN) -> Jobs:
    """The jobs of a study whose last one of a run is a process."""
    record = JobRecord(job=job, kind=Kind.TRAIN, executor=Executor.LOCAL, run=run, logs=f"runs/{run}/console.log")
    note_jobs(study, [record])
    return Jobs(ledger=read_ledger(study))


def test_names_of_processes() -> None:
    assert parse_process("gpu-1.site:77") == Process(host="gpu-1.site", pid=77)
    assert parse_process("123_4") is None and parse_process("123") is None


def test_only_our_processes_are_ours_and_only_the_ones_of_the_run(start: Start) -> None:
    ours, other = start("prx_scale", "train", "--run", RUN), start("train", RUN)
    assert is_ours(here(ours.pid)) and not is_ours(here(other.pid))
    assert works_on(here(ours.pid), RUN) and not works_on(here(ours.pid), "d2-s0-00000000")
    assert not works_on(here(other.pid), RUN)
    ours.kill()
    ours.wait()
    assert not works_on(here(ours.pid), RUN)


def test_a_listed_process_is_asked_to_end_and_noted(start: Start, tmp_path: Path) -> None:
    process = start("prx_scale", "train", "--run", RUN)
    jobs = listed(tmp_path, f"{socket.gethostname()}:{process.pid}")
    asked, notes = cancel_here(tmp_path, jobs, [RUN], all_runs=False)
    assert (asked, notes) == ([(RUN, here(process.pid))], [])
    assert process.wait(timeout=20) == -signal.SIGTERM
    assert read_ledger(tmp_path).cancelled == {f"{socket.gethostname()}:{process.pid}"}


def test_a_process_that_took_over_the_number_is_left_alone(start: Start, tmp_path: Path) -> None:
    stranger = start("something", "else")
    jobs = listed(tmp_path, f"{socket.gethostname()}:{stranger.pid}")
    assert cancel_here(tmp_path, jobs, [RUN], all_runs=True) == ([], [])
    assert stranger.poll() is None and not read_ledger(tmp_path).cancelled


def test_of_a_whole_study_the_launcher_is_asked_once(start: Start, tmp_path: Path) -> None:
    launcher = start("prx_scale", "sweep", "study.toml")
    runs = [RUN, "d2-s0-00000000"]
    children = [start("prx_scale", "train", "--run", run, parent=launcher.pid) for run in runs]
    for run, child in zip(runs, children, strict=True):
        jobs = listed(tmp_path, f"{socket.gethostname()}:{child.pid}", run)
    assert launcher_of(here(children[0].pid)) == here(launcher.pid)
    asked, _ = cancel_here(tmp_path, jobs, runs, all_runs=True)
    assert asked == [(run, here(launcher.pid)) for run in runs]
    assert launcher.wait(timeout=20) == -signal.SIGTERM
    assert all(child.poll() is None for child in children)


def test_who_holds_a_lock_is_found(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN
    process = start(str(folder), "prx_scale", code=HOLD)
    assert holder(folder) == here(process.pid)
    asked, notes = cancel_here(tmp_path, Jobs(ledger=Ledger(study=tmp_path)), [RUN], all_runs=False)
    assert (asked, notes) == ([(RUN, here(process.pid))], [])
    process.wait(timeout=20)
    deadline = time.monotonic() + 10
    while is_held(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holder(folder) is None


def test_another_programs_lock_is_left_alone(start: Start, tmp_path: Path) -> None:
    process = start(str(tmp_path / "runs" / RUN), code=HOLD)
    asked, (note,) = cancel_here(tmp_path, Jobs(ledger=Ledger(study=tmp_path)), [RUN], all_runs=False)
    assert not asked and "left alone" in note and str(process.pid) in note
    assert process.poll() is None


def test_a_process_on_another_machine_is_named(tmp_path: Path) -> None:
    jobs = listed(tmp_path, "elsewhere:77")
    with only_one(tmp_path / "runs" / RUN):
        _, (note,) = cancel_here(tmp_path, jobs, [RUN], all_runs=False)
    assert "elsewhere" in note or str(os.getpid()) in note
    assert cancel_here(tmp_path, jobs, [RUN], all_runs=False) == ([], [])


def test_which_jobs_are_cancelled(tmp_path: Path) -> None:
    def record(job: str, kind: Kind, run: str | None) -> JobRecord:
        return JobRecord(job=job, kind=kind, executor=Executor.SLURM, run=run, logs="x")

    records = [
        record("1_0", Kind.TRAIN, "a"),
        record("1_1", Kind.TRAIN, "b"),
        record("2", Kind.EVALUATE, "a"),
        record("3", Kind.REPORT, None),
    ]
    states = {"1_0": "PENDING", "1_1": "COMPLETED", "2": "RUNNING", "3": "PENDING"}
    statuses = {job: JobStatus(job=job, state=state) for job, state in states.items()}
    jobs = Jobs(ledger=Ledger(study=tmp_path, jobs=tuple(records)), statuses=statuses)
    assert [each.job for each in active_jobs(jobs, None)] == ["1_0", "2", "3"]
    assert [each.job for each in active_jobs(jobs, ["a"])] == ["1_0", "2"]
    assert active_jobs(jobs, ["b"]) == []


def test_which_runs_words_mean(tmp_path: Path) -> None:
    known = ["d1-s0-aa", "d1-s1-bb", "d2-s0-cc"]
    assert chosen_runs([], known, tmp_path) == known
    assert chosen_runs(["d1", "d2-s0"], known, tmp_path) == known
    assert chosen_runs(["d1-s1"], known, tmp_path) == ["d1-s1-bb"]
    with pytest.raises(InputError, match="no run 'd9'"):
        chosen_runs(["d9"], known, tmp_path)
