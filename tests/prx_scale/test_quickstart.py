"""The whole chain, shortened: interrupted, gone on with, finished, and started once more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prx_scale import runs
from prx_scale.data.shapes.captions import tokenize
from prx_scale.runs.files import read_rows
from prx_scale.runs.info import State

ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "prx_scale", "quickstart", "--smoke", "--out", str(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A chain that was interrupted in its first training runs and then went on to its end."""
    folder = tmp_path_factory.mktemp("quickstart") / "smoke"
    first = subprocess.Popen(command(folder), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not any(file.stat().st_size for file in folder.glob("runs/*/train.jsonl")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=90) == 130
    states = {info.state for info in runs.load_runs(folder)}
    assert State.RUNNING not in states
    assert not (folder / "fit").exists()
    done = subprocess.run(command(folder), env=ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def record_files(folder: Path) -> dict[Path, bytes]:
    names = ("train.jsonl", "validation.jsonl", "evaluation.jsonl")
    return {path: path.read_bytes() for name in names for path in sorted(folder.glob(f"runs/*/{name}"))}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_chain_leaves_the_whole_record(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    infos = runs.load_runs(folder)
    assert [info.depth for info in infos] == [1, 2, 3, 4]
    assert all(info.state is State.DONE for info in infos)
    validation = runs.load(folder)
    assert set(validation["weights"]) == {"raw", "ema"}
    assert not validation.select("run", "step", "weights").is_duplicated().any()
    evaluation = runs.load(folder, "evaluation")
    assert set(evaluation["metric"]) == {
        f"geneval/{name}"
        for name in ("overall", "single_object", "two_object", "counting", "colors", "position", "color_attr")
    }
    assert str(folder / "report.html") in printed
    assert (folder / "report.html").stat().st_size > 500_000
    for info in infos:
        (samples,) = (info.folder / "samples").iterdir()
        rows = read_rows(samples / "samples.jsonl")
        assert all((samples / row["file"]).exists() for row in rows)


@pytest.mark.slow
def test_dataset_examples_show_all_tasks_with_both_captions(finished: tuple[Path, str]) -> None:
    rows = read_rows(finished[0] / "dataset" / "index.jsonl")
    assert len({row["task"] for row in rows}) == 6
    for row in rows:
        assert (finished[0] / "dataset" / row["file"]).exists()
        assert len(row["long"].split()) > len(row["short"].split())
        tokenize(row["long"])


@pytest.mark.slow
def test_prediction_is_older_than_the_run_it_is_about(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    prediction = json.loads((folder / "fit" / "prediction.json").read_text())
    verdict = json.loads((folder / "fit" / "verdict.json").read_text())
    (held_out,) = [info for info in runs.load_runs(folder) if info.variant == "held-out"]
    assert prediction["before_training"] is True
    assert prediction["made"] <= held_out.created
    (forecast,), (check,) = prediction["predictions"], verdict["checks"]
    assert check["predicted"] == forecast["loss"]
    measured = runs.load(folder).filter(run=held_out.run, weights="ema").sort("step")["loss"][-1]
    assert check["measured"] == measured
    low, high = forecast["interval"]
    assert check["held"] == (low <= measured <= high)
    words = " ".join(printed.split())
    assert " ".join(verdict["sentence"].split()) in words
    assert ("did not hold" in verdict["sentence"]) != check["held"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_starting_again_redoes_nothing(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = record_files(folder)
    prediction = (folder / "fit" / "prediction.json").read_bytes()
    start = time.monotonic()
    done = subprocess.run(command(folder), env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert record_files(folder) == before
    assert (folder / "fit" / "prediction.json").read_bytes() == prediction
    assert time.monotonic() - start < 90


def test_another_study_in_the_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("[study]\nname = 'mine'\n")
    done = subprocess.run(command(tmp_path), env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another study" in done.stderr
    assert (tmp_path / "study.toml").read_text() == "[study]\nname = 'mine'\n"
