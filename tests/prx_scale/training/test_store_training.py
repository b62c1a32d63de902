"""Real training on a store through buckets of three aspect ratios: stopped, killed, resumed, on one process and two."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from prx_scale import runs
from prx_scale.study import load
from tests.prx_scale.training.stored import write_staged_study, write_study
from tests.prx_scale.training.studies import ENVIRONMENT, command, ended, info, run_folder, start, train
from tests.prx_scale.training.test_training import assert_same_weights, final_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_study(tmp_path_factory.mktemp("whole") / "stored")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


def end_at(study: Path, step: int, number: signal.Signals) -> int:
    """Start training, and send a signal when its record has reached a step; returns the exit code."""
    process = subprocess.Popen(command(study), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(study.glob("runs/*/train.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= step:
            break
        assert process.poll() is None, "training ended before it got the signal"
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(timeout=60)


def test_stopped_and_killed_training_resumes_bitwise(uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "stored")
    assert end_at(study, 3, signal.SIGTERM) == 130
    assert info(study)["state"] == "interrupted"
    assert end_at(study, 9, signal.SIGKILL) == -signal.SIGKILL
    assert info(study)["state"] == "running"
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(uninterrupted) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    assert_same_weights(final_weights(study, tmp_path), final_weights(uninterrupted, tmp_path))
    assert runs.load(study, "train")["loss"].equals(runs.load(uninterrupted, "train")["loss"])


def test_two_processes_have_the_losses_of_one(uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "stored")
    assert [code for code, _ in ended(start(command(study), 2))] == [0, 0]
    for table, columns in (("train", ("loss", "grad_norm")), ("validation", ("loss",))):
        one, two = (runs.load(each, table) for each in (uninterrupted, study))  # type: ignore[arg-type]
        assert one["step"].equals(two["step"])
        for column in columns:
            assert (one[column] - two[column]).abs().max() < 1e-5  # type: ignore[operator]


def test_the_record_says_what_it_was_trained_on(uninterrupted: Path) -> None:
    (run,) = load(uninterrupted).runs
    record = info(uninterrupted)
    assert record["run"] == run.id and record["state"] == "done"
    assert runs.load(uninterrupted)["n"].unique().to_list() == [7]


def test_a_run_of_two_stages_resumes_bitwise_in_the_second(tmp_path: Path) -> None:
    whole = write_staged_study(tmp_path / "whole")
    done = train(whole)
    assert done.returncode == 0, done.stderr
    study = write_staged_study(tmp_path / "stored")
    assert end_at(study, 10, signal.SIGTERM) == 130
    assert train(study).returncode == 0
    expected = (run_folder(whole) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    rows = runs.load(study, "train")
    assert rows["loss"].equals(runs.load(whole, "train")["loss"])
    assert rows["samples"].to_list() == [min(step, 8) * 8 + max(step - 8, 0) * 4 for step in range(1, 21)]
    assert rows["lr"].gather([0, 7, 8, 19]).to_list() == pytest.approx([1e-3 / 4, 1e-3, 1e-3 / 6, 5e-4])
