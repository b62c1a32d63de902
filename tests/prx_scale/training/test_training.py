"""Real training runs: killed and resumed, spread over processes, diverging, stopped by a signal."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from prx_scale import runs
from tests.prx_scale.training.studies import ENVIRONMENT, command, info, run_folder, train, write_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_study(tmp_path_factory.mktemp("whole") / "small")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


def final_weights(study: Path, tmp_path: Path, step: int = 20) -> dict[str, object]:
    file = tmp_path / "weights.pt"
    dcp_to_torch_save(run_folder(study) / "checkpoint" / f"step-{step}", file)
    # The file was written a line above, by this test.
    return torch.load(file, weights_only=False)


def assert_same_weights(a: dict[str, object], b: dict[str, object]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, dict):
            assert_same_weights(value, b[name])  # type: ignore[arg-type]
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name  # type: ignore[arg-type]
        else:
            assert value == b[name], name


def test_record_is_complete(uninterrupted: Path) -> None:
    record = info(uninterrupted)
    assert (record["state"], record["step"], record["world_size"]) == ("done", 20, 1)
    validation = runs.load(uninterrupted)
    assert validation["step"].unique().sort().to_list() == [4, 8, 12, 16, 20]
    assert validation["weights"].to_list() == ["raw", "ema"] * 5
    assert (validation["samples"] == validation["step"] * 16).all()
    assert (validation["flops"] == validation["samples"] * record["flops_per_sample"]).all()
    levels = validation["loss_per_level"].list.head(7).list.mean()
    assert (levels - validation["loss"]).abs().max() < 1e-12
    training = runs.load(uninterrupted, "train")
    assert training["step"].to_list() == list(range(1, 21))
    assert training["lr"][0] == pytest.approx(1e-3 / 4)
    assert training["lr"][-1] == pytest.approx(1e-3)


def test_training_again_does_nothing(uninterrupted: Path) -> None:
    before = (run_folder(uninterrupted) / "train.jsonl").read_bytes()
    assert train(uninterrupted).returncode == 0
    assert (run_folder(uninterrupted) / "train.jsonl").read_bytes() == before


def kill_at(study: Path, step: int) -> None:
    """Start training and SIGKILL it when its record has reached a step."""
    process = subprocess.Popen(command(study), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(study.glob("runs/*/train.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= step:
            break
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert info(study)["state"] == "running"


def test_killed_twice_and_resumed_is_bitwise_the_uninterrupted_run(uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    first, second = random.randint(2, 9), random.randint(10, 17)
    kill_at(study, first)
    kill_at(study, second)
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(uninterrupted) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected, (first, second)
    assert_same_weights(final_weights(study, tmp_path), final_weights(uninterrupted, tmp_path))
    steps = runs.load(study, "train")["step"].to_list()
    assert steps == list(range(1, 21))


def test_two_processes_follow_the_curve_of_one(uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    done = train(study, processes=2)
    assert done.returncode == 0, done.stderr
    assert info(study)["world_size"] == 2
    for table, columns in (("train", ("loss", "grad_norm")), ("validation", ("loss",))):
        one, two = (runs.load(each, table) for each in (uninterrupted, study))  # type: ignore[arg-type]
        assert one["step"].equals(two["step"])
        for column in columns:
            assert (one[column] - two[column]).abs().max() < 1e-5  # type: ignore[operator]


def test_gradient_accumulation_follows_the_same_curve(uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", more="[parallel]\nmicro_batch = 4\n")
    assert train(study).returncode == 0
    one, other = runs.load(uninterrupted), runs.load(study)
    assert run_folder(study).name == run_folder(uninterrupted).name
    assert (one["loss"] - other["loss"]).abs().max() < 1e-5  # type: ignore[operator]


def test_divergence_is_recorded_with_the_last_good_step(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", lr=1e30, more="")
    done = train(study)
    assert done.returncode == 1
    record = info(study)
    assert record["state"] == "failed"
    assert "not finite" in str(record["reason"])
    good = record["last_good_step"]
    rows = runs.load(study, "train")
    assert rows.filter(pl.col("step") > good).is_empty()
    assert rows["loss"].is_finite().all()
    again = train(study)
    assert again.returncode == 1
    assert str(good) in again.stdout + again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state(number: signal.Signals, uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "small")
    process = subprocess.Popen(command(study), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(study.glob("runs/*/train.jsonl")):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    record = info(study)
    assert record["state"] == "interrupted"
    assert (run_folder(study) / "checkpoint" / f"step-{record['step']}" / ".metadata").exists()
    assert train(study).returncode == 0
    expected = (run_folder(uninterrupted) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=400)
    first = subprocess.Popen(command(study), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(study.glob("runs/*/train.jsonl")):
            time.sleep(0.01)
        second = train(study)
        assert second.returncode == 2
        assert "another process is working on it" in second.stderr
    finally:
        first.kill()
        first.wait()


def test_batch_that_cannot_be_dealt_out_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", more="[parallel]\ndp_shard = 3\n")
    done = train(study)
    assert done.returncode == 2
    assert "dp_shard 3 does not give the 1 processes" in done.stderr
    assert not (study / "runs").exists()


def test_tensorboard_is_one_option_away(tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=4, more="tensorboard = true\n")
    assert train(study).returncode == 0
    assert list(run_folder(study).glob("tb/*/events.out.tfevents.*"))


def test_run_json_says_what_it_ran_on(uninterrupted: Path) -> None:
    record = json.loads((run_folder(uninterrupted) / "run.json").read_text())
    assert record["versions"].keys() >= {"python", "torch", "torchtitan", "prx-scale"}
    assert record["device"]
    assert record["parameters"]["total"] == record["parameters"]["backbone"] + record["parameters"]["embedding"]
