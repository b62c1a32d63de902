"""Real training on images: the losses of training on their store, stopped, killed, resumed, on one process and two."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prx_scale import runs
from prx_scale.commands import exits
from prx_scale.study import load
from tests.prx_scale.training.images import ENCODING, LATENTS, PLAIN, STORE, TEXT, write_study
from tests.prx_scale.training.studies import ENVIRONMENT, command, ended, info, run_folder, start, train
from tests.prx_scale.training.test_training import assert_same_weights, final_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(world: Path) -> Path:
    """Two stages on images; the second one's batches are larger, and some are replayed ones of the first."""
    study = write_study(world / "whole")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


def assert_same_losses(one: Path, other: Path) -> None:
    """Bit by bit."""
    ours, theirs = (runs.load(each, "train") for each in (one, other))
    assert ours["step"].to_list() == list(range(1, 21))
    for column in ("step", "samples", "tokens", "flops", "loss", "lr", "grad_norm"):
        assert ours[column].equals(theirs[column]), column
    assert (run_folder(one) / "validation.jsonl").read_bytes() == (run_folder(other) / "validation.jsonl").read_bytes()


def producers(process: int) -> list[int]:
    """The processes that one that trains has started."""
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def lives(process: int) -> bool:
    """Whether a process is there; one that has ended and nobody has asked about is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(processes: list[int], seconds: float = 20) -> bool:
    """Whether processes end in time."""
    deadline = time.monotonic() + seconds
    while any(lives(each) for each in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(lives(each) for each in processes)


def begun(study: Path, step: int) -> subprocess.Popen[str]:
    """Training, once its record has reached a step."""
    process = subprocess.Popen(
        command(study), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    reached(study, step, process)
    return process


def reached(study: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until the record of training has reached a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(study.glob("runs/*/train.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= step:
            return
        assert process.poll() is None, "training ended too early"
        time.sleep(0.002)
    raise AssertionError(f"no step {step} in time")


def test_images_have_the_losses_of_their_store(uninterrupted: Path, world: Path) -> None:
    study = write_study(world / "stored", data=STORE, encoding="")
    done = train(study)
    assert done.returncode == 0, done.stderr
    assert_same_losses(uninterrupted, study)
    waiting = runs.load(uninterrupted, "train")["waiting"]
    assert waiting.is_between(0, 1).all() and waiting[0] > 0.5
    assert runs.load(study, "train")["waiting"].is_null().all()
    assert "the trainer waited for encoders" in (run_folder(uninterrupted) / "rank0.log").read_text()


def test_a_stage_in_epochs_trains_on_one_survey(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PRX_SCALE_CACHE", str(tmp_path))
    study = write_study(world / "sft", stages=PLAIN.format(steps=2).replace("steps = 2", "epochs = 0.5"))
    done = train(study)
    assert done.returncode == 0, done.stderr
    told = done.stderr + (run_folder(study) / "rank0.log").read_text()
    assert told.count("of 60 images looked up") == 1
    (cached,), (kept,) = (list((folder / "surveys").glob("*.npz")) for folder in (tmp_path, study))
    assert cached.read_bytes() == kept.read_bytes()
    (run,) = load(study).runs
    assert runs.load(study, "train")["step"].to_list() == list(range(1, run.training.steps + 1))
    assert 5 <= run.training.steps <= 6


def test_stopped_and_killed_training_resumes_bitwise_and_leaves_no_process(
    uninterrupted: Path, world: Path, tmp_path: Path
) -> None:
    study = write_study(world / "ended")
    process = begun(study, 4)
    encoding = producers(process.pid)
    assert encoding
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130 and gone(encoding)
    assert info(study)["state"] == "interrupted"
    more = ENCODING.replace("threads = 1", "threads = 1\nprocesses = 2")
    process = begun(write_study(study, encoding=more), 11)
    encoding = producers(process.pid)
    assert len(encoding) >= 2
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL and gone(encoding)
    done = train(study)
    assert done.returncode == 0, done.stderr
    assert_same_losses(uninterrupted, study)
    assert_same_weights(final_weights(study, tmp_path), final_weights(uninterrupted, tmp_path))


def test_two_processes_have_the_losses_of_one_also_after_a_kill(uninterrupted: Path, world: Path) -> None:
    study = write_study(world / "two")
    ranks = start(command(study), 2)
    reached(study, 9, ranks[0])
    encoding = [each for rank in ranks for each in producers(rank.pid)]
    assert len(encoding) >= 2
    ranks[1].kill()
    assert [code for code, _ in ended(ranks)] == [exits.AGAIN, -signal.SIGKILL] and gone(encoding)
    assert [code for code, _ in ended(start(command(study), 2))] == [0, 0]
    assert len(list((study / "surveys").glob("*.npz"))) == 1
    for table, columns in (("train", ("loss", "grad_norm")), ("validation", ("loss",))):
        one, two = (runs.load(each, table) for each in (uninterrupted, study))  # type: ignore[arg-type]
        assert one["step"].equals(two["step"])
        for column in columns:
            assert (one[column] - two[column]).abs().max() < 1e-5  # type: ignore[operator]


def test_a_producer_that_dies_ends_training_with_its_reason(uninterrupted: Path, world: Path) -> None:
    """One of those that encode captions alone, which have the same losses till then."""
    study = write_study(world / "died", data=LATENTS, encoding=f"[encoding]\n{TEXT}")
    process = begun(study, 4)
    for each in producers(process.pid):
        if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text():
            os.kill(each, signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    assert info(study)["state"] == "failed"
    assert "producer 0 was ended by SIGKILL" in str(info(study)["reason"])
    ours, theirs = (runs.load(each, "train")["loss"] for each in (study, uninterrupted))
    assert len(ours) >= 4 and ours.equals(theirs[: len(ours)])
