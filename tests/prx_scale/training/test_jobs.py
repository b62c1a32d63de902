"""Training as a cluster job: asked to stop, failing, replaced by another job, given up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from prx_scale import runs
from prx_scale.attempts import Attempts, End, Ending, Job, Start
from prx_scale.owner import read_owner, take
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from prx_scale.study import load
from tests.prx_scale.training.studies import ended, info, run_folder, start, write_study

pytestmark = pytest.mark.slow

SECONDS = 120.0


def job(number: int = 7, restart: int = 0, **changes: float) -> Job:
    limits = {"limit_seconds": 3600.0, "signal_seconds": 120.0, "max_restarts": 20, "max_fruitless": 3}
    return Job(id=str(number), restart=restart, started=time.time(), **{**limits, **changes})  # type: ignore[arg-type]


def in_job(study: Path, of: Job, *failure: str) -> list[str]:
    fields = {name: value for name, value in asdict(of).items() if name != "started"}
    return [sys.executable, "-m", "tests.prx_scale.training.in_job", str(study), json.dumps(fields), *failure]


def wait_for_rows(study: Path, count: int, ranks: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + SECONDS
    while not (files := list(study.glob("runs/*/train.jsonl"))) or files[0].read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline and all(rank.poll() is None for rank in ranks)
        time.sleep(0.005)


def ended_under_srun(ranks: list[subprocess.Popen[str]]) -> list[int]:
    """Exit codes where, as under `srun --kill-on-bad-exit`, all are killed once one has ended with another than 0."""
    deadline = time.monotonic() + SECONDS
    while all(rank.poll() in (None, 0) for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for rank in ranks:
        rank.kill()
    return [code for code, _ in ended(ranks)]


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Whether a process has a handler for a signal by now (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def rows(study: Path) -> list[Start | End]:
    return Attempts(run_folder(study)).rows()  # type: ignore[return-value]


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_the_restart_is_bitwise(
    two_processes: Path, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "small", steps=60)
    ranks = start(in_job(study, job()), 2)
    wait_for_rows(study, 8, ranks)
    ranks[1].send_signal(signal.SIGUSR2)
    codes = ended_under_srun(ranks)
    assert 130 in codes and set(codes) <= {130, -signal.SIGKILL}
    record, folder = info(study), run_folder(study)
    step = int(str(record["step"]))
    assert record["state"] == "interrupted" and 8 <= step < 60
    assert str(record["reason"]).startswith("preempted: SIGUSR2 after 0:00:")
    assert len(list((folder / "checkpoint" / f"step-{step}").glob("__*.distcp"))) == 2

    assert [code for code, _ in ended(start(in_job(study, job(restart=1)), 2))] == [0, 0]
    assert (folder / "validation.jsonl").read_bytes() == (run_folder(two_processes) / "validation.jsonl").read_bytes()
    losses = [runs.load(each, "train").select("step", "loss", "grad_norm") for each in (two_processes, study)]
    assert losses[0].equals(losses[1])
    first, stopped, second, done = rows(study)
    assert isinstance(first, Start) and (first.executor, first.job, first.from_step) == ("slurm", "7", 0)
    assert isinstance(stopped, End) and (stopped.cause, stopped.step) == (Ending.PREEMPTED, step)
    assert isinstance(second, Start) and (second.attempt, second.restart, second.from_step) == (2, 1, step)
    assert isinstance(done, End) and (done.attempt, done.cause, done.state) == (2, Ending.DONE, State.DONE)


def test_a_signal_during_start_up_ends_all_before_they_train(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    ranks = start(in_job(study, job()), 2)
    while not catches(ranks[1], signal.SIGUSR2):
        assert ranks[1].poll() is None
        time.sleep(0.005)
    ranks[1].send_signal(signal.SIGUSR2)
    assert [code for code, _ in ended(ranks, SECONDS)] == [130, 130]
    assert (info(study)["state"], info(study)["step"]) == ("interrupted", 0)
    assert not (run_folder(study) / "train.jsonl").exists()
    assert [row.cause for row in rows(study) if isinstance(row, End)] == [Ending.PREEMPTED]


def test_an_error_is_written_down_with_its_type_and_words(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    ((code, errors),) = ended(start(in_job(study, job(), "0:3"), 1), SECONDS)
    assert code == 1 and "and more about it" in errors
    record = info(study)
    assert (record["state"], record["reason"]) == ("failed", "ValueError: a sample has no image")
    assert [row.cause for row in rows(study) if isinstance(row, End)] == [Ending.FAILED]


def test_an_error_of_another_process_is_written_down_by_the_first(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    codes = ended_under_srun(start(in_job(study, job(), "1:3"), 2))
    assert 1 in codes and set(codes) <= {1, -signal.SIGKILL}
    record = info(study)
    assert record["state"] == "failed"
    assert str(record["reason"]).startswith("ValueError: a sample has no image (rank 1 on ")
    assert [row.cause for row in rows(study) if isinstance(row, End)] == [Ending.FAILED]


def test_a_replaced_job_writes_nothing_more(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=4000)
    text = (study / "study.toml").read_text()
    (study / "study.toml").write_text(text.replace("[checkpoint]\nevery = 6", "[checkpoint]\nevery = 4000"))
    ranks = start(in_job(study, job()), 2)
    wait_for_rows(study, 8, ranks)
    folder = run_folder(study)
    take(folder, job(restart=1))
    time.sleep(0.1)  # for what was being written
    files = ("validation.jsonl", "train.jsonl", "run.json", "attempts.jsonl")
    before = {name: (folder / name).read_bytes() for name in files}
    (code, errors), (other, _) = ended(ranks, SECONDS)
    assert (code, other) == (1, 1)
    assert "job 7 (restart 1, on " in errors and "has taken this run over" in errors
    assert {name: (folder / name).read_bytes() for name in files} == before
    assert not (folder / "checkpoint").exists()


def test_a_job_that_takes_over_ends_the_other_and_goes_on(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=40)
    first = start(in_job(study, job()), 1)
    wait_for_rows(study, 8, first)
    first[0].send_signal(signal.SIGSTOP)  # as on a node that hangs
    second = start(in_job(study, job(restart=1)), 1)
    deadline = time.monotonic() + SECONDS
    while (owner := read_owner(run_folder(study))) is None or owner.restart != 1:
        assert time.monotonic() < deadline and second[0].poll() is None
        time.sleep(0.01)
    first[0].send_signal(signal.SIGCONT)
    ((code, errors),) = ended(first, SECONDS)
    assert code == 1 and "has taken this run over" in errors
    assert [code for code, _ in ended(second, SECONDS)] == [0]
    assert runs.load(study)["step"].to_list() == [step for step in range(4, 41, 4) for _ in ("raw", "ema")]
    assert runs.load(study, "train")["step"].to_list() == list(range(1, 41))
    _, replaced, going_on, done = rows(study)
    assert isinstance(replaced, End) and isinstance(going_on, Start) and isinstance(done, End)
    assert (replaced.cause, going_on.restart, done.cause) == (Ending.SUPERSEDED, 1, Ending.DONE)
    assert going_on.from_step >= 6


def test_bad_input_that_the_first_process_meets_ends_all_as_such(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    folder = study / "runs" / load(study).runs[0].id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema": 1}')
    ranks = ended(start(in_job(study, job()), 2), SECONDS)
    assert [code for code, _ in ranks] == [2, 2]
    assert all(f"error: {folder}/run.json: not a complete run record" in errors for _, errors in ranks)
    assert not (folder / "attempts.jsonl").exists()


def test_a_run_that_gets_nowhere_is_given_up(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    folder = study / "runs" / load(study).runs[0].id
    for restart in range(3):
        Attempts(folder).start(job(restart=restart), 2, 0)
    ranks = ended(start(in_job(study, job(restart=3)), 2), SECONDS)
    assert [code for code, _ in ranks] == [1, 1]
    record = RunRecord(folder).read()
    assert record is not None and record.state is State.FAILED
    assert str(record.reason).startswith("started 3 times from step 0 without reaching a new checkpoint; the last one")
    assert len(Attempts(folder).rows()) == 3
    owner = read_owner(folder)
    assert owner is not None and (owner.job, owner.restart) == ("7", 3)
