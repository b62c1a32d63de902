"""Which checkpoints have no scores yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale.config import RunConfig
from prx_scale.evaluation.due import due_steps
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import EvaluationRow
from prx_scale.study import load

STUDY = """
[study]
name = "due"
[model]
depth = 1
[training]
steps = 40
batch = 4
warmup = 2
[checkpoint]
every = 10
"""


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    (tmp_path / "study.toml").write_text(STUDY)
    (run,) = load(tmp_path).runs
    return run


def keep(folder: Path, *steps: int, finished: bool = True) -> None:
    for step in steps:
        checkpoint = folder / "checkpoint" / f"step-{step}"
        checkpoint.mkdir(parents=True)
        if finished:
            (checkpoint / ".metadata").touch()


def record(run: RunConfig, folder: Path, step: int) -> None:
    chosen = run.evaluation
    row = EvaluationRow(
        step=step,
        weights=chosen.weights,
        metric="geneval/overall",
        value=0.5,
        stderr=0.1,
        n=4,
        sampler=chosen.sampler,
        steps=chosen.steps,
        guidance=chosen.guidance,
        source="test",
    )
    RunRecord(folder).append_all([row])


def test_what_is_kept_and_has_no_scores_is_due(run: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert due_steps(run, folder) == []
    keep(folder, 20, 30, 40, 35)  # 10 is no longer kept, 35 was written when training was stopped
    keep(folder, 10, finished=False)
    assert due_steps(run, folder) == [20, 30, 40]
    record(run, folder, 30)
    assert due_steps(run, folder) == [20, 40]
    record(run, folder, 20)
    record(run, folder, 40)
    assert due_steps(run, folder) == []


def test_scores_of_another_sampling_do_not_count(run: RunConfig, tmp_path: Path) -> None:
    keep(tmp_path / "run", 40)
    record(run, tmp_path / "run", 40)
    more = replace(run, evaluation=replace(run.evaluation, steps=run.evaluation.steps + 1))
    assert more.id == run.id and due_steps(more, tmp_path / "run") == [40]


def test_only_shapes_can_be_scored(run: RunConfig, tmp_path: Path) -> None:
    keep(tmp_path / "run", 40)
    assert due_steps(replace(run, data=replace(run.data, dataset="random")), tmp_path / "run") == []
