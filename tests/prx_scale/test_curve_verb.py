"""``prx-scale curve`` on written run records and tables: predictions, backtests, its JSON and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from prx_scale import curverows
from prx_scale.commands.curve import Curve
from prx_scale.errors import InputError
from prx_scale.runs.info import Parameters, State
from prx_scale.runs.record import RunRecord
from tests.prx_scale.runs.records import make_info, train_row, validation_row

STEPS = np.arange(1, 21) * 50


def loss_at(step: float, depth: int, seed: int) -> float:
    noise = 0.003 * np.sin(step * (seed + 3) + depth)
    return (0.3 / depth + 0.7 * ((step + 50) / 100) ** -0.7) * (1 + noise)


def write_study(folder: Path, ended: int = 1000) -> Path:
    """Two depths with two seeds; depth 2, seed 1 has got only to ``ended``."""
    for depth in (1, 2):
        for seed in (0, 1):
            record = RunRecord(folder / "runs" / f"d{depth}-s{seed}-00000000")
            size = Parameters(backbone=1000 * depth, embedding=10)
            config = {"training": {"batch": 4, "warmup": 100}}
            last = ended if (depth, seed) == (2, 1) else 1000
            state = State.DONE if last == 1000 else State.RUNNING
            info = make_info(record.folder.name, depth=depth, seed=seed, parameters=size, config=config, state=state)
            record.write(info)
            record.update(steps=1000)
            for step in STEPS[last >= STEPS].tolist():
                record.append(train_row(step, loss=loss_at(step, depth, seed)))
                loss = loss_at(step, depth, seed)
                record.append_all([validation_row(step, loss=loss), validation_row(step, weights="raw", loss=2 * loss)])
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", ended=500)


def run(source: Path, *arguments: str) -> int:
    return tyro.cli(Curve, args=[str(source), *arguments]).run()


def test_an_unfinished_run_is_predicted_at_its_planned_end(study, capsys):
    assert run(study, "--run", "d2-s1-00000000", "--json", "-") == 0
    (each,) = json.loads(capsys.readouterr().out)["runs"]
    prediction, true = each["prediction"], loss_at(1000, 2, 1)
    assert prediction["to"] == 1000 and prediction["last"] == 500 and prediction["borrowed"] == 1
    assert prediction["tests"] == 3 and prediction["widened"] >= 1
    assert prediction["loss"] == pytest.approx(true, rel=0.03)
    assert prediction["interval"][0] < true < prediction["interval"][1]
    assert prediction["n"] == 9  # the warm-up of 100 steps takes the first of ten


def test_the_tables_are_printed(study, capsys):
    assert run(study, "--until", "600", "--to", "1000", "--backtest") == 0
    printed = capsys.readouterr().out
    assert "4 runs from" in printed and "measured" in printed
    assert "backtest: the last loss" in printed and "inside their intervals" in printed


def test_a_table_gives_the_same_as_the_study(study, tmp_path, capsys):
    lines = ["iteration,val,name,n"]
    for depth in (1, 2):
        for seed in (0, 1):
            for step in STEPS[1:] if (depth, seed) != (2, 1) else STEPS[1:10]:
                lines.append(f"{step},{loss_at(step, depth, seed)!r},d{depth}-s{seed}-00000000,{1000 * depth}")
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    assert run(study, "--run", "d2-s1-00000000", "--json", "-") == 0
    ours = json.loads(capsys.readouterr().out)["runs"][0]["prediction"]
    columns = "step=iteration,loss=val,run=name,params=n"
    assert run(path, "--columns", columns, "--run", "d2-s1-00000000", "--to", "1k", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["prediction"] == ours


def test_raw_weights_and_training_losses_can_be_asked_for(study):
    assert curverows.load(study, weights="raw").curves[0].loss[0] == pytest.approx(2 * loss_at(100, 1, 0))
    assert curverows.load(study, record="train", warmup=0.0).curves[0].step[0] == 50


def test_a_decay_is_cut_off_and_said(tmp_path, capsys):
    rate = np.where(STEPS > 800, (1050 - STEPS) / 250, 1.0)
    rows = [f"{s},{loss_at(s, 1, 0):.6f},{r:.4f}" for s, r in zip(STEPS, rate, strict=True)]
    path = tmp_path / "curve.csv"
    path.write_text("step,loss,lr\n" + "\n".join(rows) + "\n")
    assert run(path, "--to", "2000") == 0
    printed = capsys.readouterr().out
    assert "the learning rate decays after step 800; 4 losses there are left out" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "d2-s1-0000000"], "no run 'd2-s1-0000000' that can be predicted; did you mean"),
        (["--to", "soon"], "'soon' is not a number"),
        (["--until", "120"], "no run can be predicted"),
        (["--warmup", "5000"], "no run can be extrapolated"),
        (["--level", "2"], "level is 2"),
    ],
)
def test_refusals_are_input_errors(study, arguments, words):
    with pytest.raises(InputError, match=words):
        run(study, *arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step,value\n1,2\n", "no column for loss"),
        ("step,loss\n1,2\n1,2\n", "step 1 is there twice"),
        ("step,loss\n1,two\n", "column 'loss' holds 'two' in its row 1"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        run(path)
