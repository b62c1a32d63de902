"""A process of a run that dies takes the others along, by name, and damaged checkpoints are passed over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from parallel.checkpoints import defect, finished_steps, set_aside_damaged
from prx_scale import runs
from prx_scale.attempts import Attempts, End, Ending
from tests.prx_scale.training.studies import command, ended, info, run_folder, start, train, write_study

pytestmark = pytest.mark.slow

SECONDS_TO_END = 20
"""The collectives' own timeout is ten minutes."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps of one process."""
    study = write_study(tmp_path_factory.mktemp("one") / "small")
    assert train(study).returncode == 0
    return study


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named_and_the_restart_is_bitwise(victim: int, two_processes: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "small", steps=60)
    ranks = start(command(study), 2)
    deadline = time.monotonic() + 200
    while not (files := list(study.glob("runs/*/train.jsonl"))) or files[0].read_bytes().count(b"\n") < 8:
        assert time.monotonic() < deadline and all(rank.poll() is None for rank in ranks)
        time.sleep(0.005)
    os.kill(ranks[victim].pid, signal.SIGKILL)
    (code, errors), _ = reversed(ended(ranks, SECONDS_TO_END)) if victim == 0 else ended(ranks, SECONDS_TO_END)
    assert code == 75
    said = f"rank {victim} (process {ranks[victim].pid} on "
    assert said in errors and "died" in errors
    record = info(study)
    assert record["state"] == "interrupted"
    assert said in str(record["reason"]) and "goes on from the last checkpoint" in str(record["reason"])
    last = Attempts(run_folder(study)).rows()[-1]
    assert isinstance(last, End) and (last.cause, last.reason) == (Ending.PEER_DIED, record["reason"])
    assert all(code == 0 for code, _ in ended(start(command(study), 2)))
    assert runs.load(study, "train")["step"].to_list() == list(range(1, 61))
    expected = (run_folder(two_processes) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected


def cut_metadata(checkpoint: Path) -> None:
    data = (checkpoint / ".metadata").read_bytes()
    (checkpoint / ".metadata").write_bytes(data[: len(data) // 2])


def cut_shard(checkpoint: Path) -> None:
    file = next(checkpoint.glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-1])


def lose_shard(checkpoint: Path) -> None:
    next(checkpoint.glob("*.distcp")).unlink()


def empty_metadata(checkpoint: Path) -> None:
    (checkpoint / ".metadata").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_metadata, ".metadata cannot be read"),
        (empty_metadata, ".metadata cannot be read"),
        (cut_shard, ".distcp has"),
        (lose_shard, ".distcp is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    damage: object, reason: str, alone: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(alone, tmp_path / "small"))
    folder = run_folder(study)
    whole = (folder / "validation.jsonl").read_bytes()
    newest = folder / "checkpoint" / "step-20"
    assert defect(newest) is None
    damage(newest)  # type: ignore[operator]
    assert reason in str(defect(newest))
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"done"', '"interrupted"'))
    done = train(study)
    assert done.returncode == 0
    assert f"the checkpoint {newest} is damaged" in done.stderr and reason in done.stderr
    assert (folder / "checkpoint" / "damaged-20").is_dir() and defect(newest) is None
    assert (folder / "validation.jsonl").read_bytes() == whole


def test_all_that_is_damaged_is_passed_over_and_unfinished_saves_stay(alone: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(alone, tmp_path / "small"))
    folder = run_folder(study) / "checkpoint"
    assert finished_steps(folder) == [6, 12, 18, 20]
    cut_shard(folder / "step-20")
    (folder / "step-18" / ".metadata").unlink()
    cut_metadata(folder / "step-12")
    damaged = set_aside_damaged(folder)
    assert [each.folder.name for each in damaged] == ["step-20", "step-12"]
    assert finished_steps(folder) == [6]
    assert (folder / "step-18").is_dir()
    assert set_aside_damaged(folder) == []
