"""``prx-scale correlate`` on written run records: the join, the verdict, its outputs and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro

from prx_scale import lossmetric
from prx_scale.commands.correlate import Correlate
from prx_scale.errors import InputError
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import EvaluationRow
from tests.prx_scale.runs.records import make_info, validation_row

STEPS = (50, 75, 100)


def score(step: int, value: float, **changes: object) -> EvaluationRow:
    fields: dict[str, object] = {
        "step": step,
        "weights": "ema",
        "metric": "geneval/overall",
        "value": value,
        "stderr": 0.01,
        "n": 24,
        "sampler": "euler",
        "steps": 20,
        "guidance": 3.0,
        "source": "shapes-detector",
    }
    return EvaluationRow(**{**fields, **changes})  # type: ignore[arg-type]


def write_study(folder: Path, name: str = "test", depths: int = 6) -> Path:
    """A run a depth: loss falls along training and with depth, the score rises with training and depth."""
    for depth in range(1, depths + 1):
        record = RunRecord(folder / "runs" / f"d{depth}-s0-00000000")
        record.write(make_info(record.folder.name, study=name, depth=depth, state=State.DONE))
        for number, step in enumerate(STEPS):
            loss = 1.0 - 0.1 * depth - 0.02 * number - 0.001 * (depth * number % 3)
            record.append_all([validation_row(step, loss=loss), validation_row(step, weights="raw", loss=2 * loss)])
            record.append(score(step, 0.1 * depth + 0.03 * number + 0.002 * (depth + number) % 3))
            record.append(score(step, 0.5 + 0.01 * number, metric="geneval/colors"))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


def run(*arguments: str | Path) -> int:
    return tyro.cli(Correlate, args=["--bootstrap", "200", *map(str, arguments)]).run()


def test_the_table_and_its_verdict(study, capsys):
    assert run(study) == 0
    printed = capsys.readouterr().out
    assert "18 checkpoints of 6 runs at 6 depths" in printed
    for name in ("Pearson, all", "Spearman, all", "Kendall, all", "at equal depth", "within runs", "between means"):
        assert name in printed
    assert "note [scaling-trend] Lower validation loss goes with higher geneval/overall" in printed


def test_json_says_when_a_trend_is_of_training_only(study, capsys):
    assert run(study, "--metric", "geneval/colors", "--metric", "geneval/overall", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    colors, overall = document["metrics"]
    assert colors["metric"] == "geneval/colors"
    # Every run has the same scores, so means of runs do not vary and cannot go with anything.
    assert colors["between"]["value"] is None
    assert colors["verdict"]["code"] == "training-only"
    assert colors["within"]["value"] < -0.9
    assert overall["verdict"]["code"] == "scaling-trend"
    assert document["provenance"]["weights"] == "ema"
    assert document["level"] == 0.8


def test_json_is_written_to_a_file(study, tmp_path, capsys):
    target = tmp_path / "out" / "correlate.json"
    assert run(study, "--bootstrap", "0", "--json", target) == 0
    assert json.loads(target.read_text())["metrics"][0]["pearson"]["stderr"] is None
    assert f"wrote {target}" in capsys.readouterr().out


def test_rows_are_joined_on_run_step_and_weights(study):
    record = RunRecord(study / "runs" / "d1-s0-00000000")
    record.append(score(60, 0.9))  # no validation at this step
    record.append(score(100, 0.7, guidance=5.0))  # scored again: the last counts
    failed = RunRecord(study / "runs" / "d9-s0-00000000")
    failed.write(make_info(failed.folder.name, depth=9, state=State.FAILED, reason="x", last_good_step=50))
    failed.append_all([validation_row(50), score(50, 0.5)])
    (found,) = lossmetric.load([study], ["geneval/overall"])
    assert len(found.frame) == 18
    assert found.frame["weights"].unique().to_list() == ["ema"]
    assert found.frame.filter(run="d1-s0-00000000", step=100)["value"].item() == 0.7
    assert "1 scored checkpoints have no validation loss" in found.notices[0]
    assert "different guidance are mixed" in found.notices[1]


def test_runs_of_two_studies_are_different_runs(study, tmp_path, capsys):
    other = write_study(tmp_path / "other", name="other")
    assert run(study, other) == 0
    assert "36 checkpoints of 12 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "geneval/overal"], "did you mean 'geneval/overall'"),
        (["--weights", "raw"], "was scored with raw weights"),
        (["--level", "80"], "level is 80"),
    ],
)
def test_refusals_are_input_errors(arguments, words, study):
    with pytest.raises(InputError, match=words):
        run(study, *arguments)


def test_studies_without_enough_checkpoints_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        run(tmp_path / "absent")
    record = RunRecord(tmp_path / "runs" / "d1-s0-00000000")
    record.write(make_info())
    record.append(validation_row(50))
    with pytest.raises(InputError, match="run prx-scale evaluate"):
        run(tmp_path)
    record.append(score(50, 0.5))
    with pytest.raises(InputError, match="1 checkpoints have both a validation loss and geneval/overall"):
        run(tmp_path)
    with pytest.raises(InputError, match="no study"):
        run()
