"""``prx-scale downstream`` on written run records and on the shipped table: rows of both steps, output, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from prx_scale import metricrows
from prx_scale.commands.downstream import Downstream
from prx_scale.errors import InputError
from prx_scale.runs.info import Parameters, State
from prx_scale.runs.record import RunRecord
from tests.prx_scale.runs.records import make_info, validation_row
from tests.prx_scale.test_correlate_verb import score

EXAMPLE = Path(__file__).parents[2] / "examples" / "overtraining" / "overtraining_c4_val.csv"
RPJ = ("--metric", "err_avg17", "--where", "train_set=rpj", "--bootstrap", "60")
STUDY = """[study]
name = "test"
[model]
depth = [1, 2, 3, 4]
[training]
steps = 100
[[variant]]
name = "held-out"
model.depth = 5
[fit]
holdout = ["held-out"]
from_fraction = 0.5
"""


def write_study(folder: Path) -> Path:
    """Four sizes, two seeds and a held-out larger one; the score is a logistic curve of the loss."""
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY)
    for depth in range(1, 6):
        for seed in (0, 1) if depth < 5 else (0,):
            record = RunRecord(folder / "runs" / f"d{depth}-s{seed}-00000000")
            variant = "held-out" if depth == 5 else "base"
            size = Parameters(backbone=1000 * depth**3, embedding=10)
            info = make_info(record.folder.name, depth=depth, seed=seed, variant=variant, parameters=size)
            record.write(info)
            record.update(state=State.DONE)
            for step in (40, 60, 80, 100):
                loss = (
                    0.2 + 6 / (1000 * depth**3) ** 0.4 + 3 / (4 * step) ** 0.5 + 0.001 * np.sin(step + 7 * seed + depth)
                )
                record.append(validation_row(step, loss=float(loss)))
                record.append(score(step, float(1 / (1 + np.exp(6 * (loss - 0.7)))), n=200))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


def run(*arguments: str | Path) -> int:
    return tyro.cli(Downstream, args=[str(each) for each in arguments]).run()


def test_a_held_out_run_of_a_study_is_predicted_and_in_neither_step(study, capsys):
    options = ("--metric", "geneval/overall", "--weighting", "binomial", "--bootstrap", "40", "--json", "-")
    assert run(study, *options) == 0
    document = json.loads(capsys.readouterr().out)
    (prediction,), (held,) = document["chain"]["predictions"], document["held_out"]
    assert document["chain"]["second"]["n_rows"] == 32 and document["chain"]["first"]["n_clusters"] == 8
    assert document["chain"]["shared"] == 8
    assert prediction["target"]["params"] == held["params"] == 125_000
    assert prediction["value"] == pytest.approx(held["value"], abs=0.03)
    assert document["chain"]["second"]["metric"]["direction"] == "max"


def test_the_tables_are_printed_with_what_was_measured(study, capsys):
    assert run(study, "--metric", "geneval/overall", "--bootstrap", "20", "--form", "logistic") == 0
    printed = capsys.readouterr().out
    assert "step 2: geneval/overall = lo + (hi - lo)" in printed and "measured" in printed
    assert "[checkpoints]" in printed and "direct on C" in printed


def test_a_table_gives_the_chain_and_its_errors(capsys):
    options = ("--law-where", "flops<5e20", "--predict", "params=6.89B,tokens=137.8B", "--json", "-")
    assert run(EXAMPLE, *RPJ, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["forms"][0]["form"] == "exponential"
    assert document["chain"]["first"]["n_points"] == 32 and document["chain"]["second"]["n_rows"] == 35
    (prediction,) = document["chain"]["predictions"]
    low, high = prediction["interval"]
    assert low < 0.4716 < high and prediction["direct"] is not None


def test_chance_and_ceiling_reach_the_fit(capsys):
    assert run(EXAMPLE, *RPJ, "--form", "logistic", "--chance", "0.86", "--ceiling", "0", "--json", "-") == 0
    parameters = json.loads(capsys.readouterr().out)["chain"]["second"]["parameters"]
    assert parameters["lo"]["value"] == 0 and parameters["hi"]["value"] == 0.86


def test_an_unknown_metric_takes_its_direction_from_the_values(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{n},{1e9 * n},{3 - 0.1 * n},{5 * n if n != 3 else ''},r{n}" for n in range(1, 9)]
    path.write_text("params,tokens,loss,votes,run\n" + "\n".join(rows) + "\n")
    source = metricrows.load(path, metricrows.MetricOptions(name="votes"))
    assert source.metric.direction == "max" and source.rows.n == 7 and source.points.points.n == 8
    assert any("took higher for better" in notice for notice in source.notices)
    assert any("1 rows have no votes" in notice for notice in source.notices)
    assert metricrows.load(path, metricrows.MetricOptions(name="votes", direction="min")).metric.direction == "min"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "err_avg18"], "no column 'err_avg18'; did you mean 'err_avg17'"),
        (["--metric", "train_set"], "column 'train_set' holds 'c4_original'"),
        ([*RPJ, "--predict", "params=1B,samples=1B"], "count data in tokens; use tokens="),
        ([*RPJ, "--predict", "params=1B"], "the target lacks data"),
        ([*RPJ, "--weighting", "binomial"], "needs the number of trials n of err_avg17"),
        ([*RPJ, "--chance", "0"], "chance 0.0 and ceiling None do not fit 'min'"),
        ([*RPJ, "--law", "nothing"], "nothing"),
        ([*RPJ, "--law-where", "params>1e12"], "no rows left after"),
    ],
)
def test_refusals_are_input_errors(arguments, words):
    with pytest.raises(InputError, match=words):
        run(EXAMPLE, *arguments)


def test_an_unscored_metric_is_refused(study):
    with pytest.raises(InputError, match="no metric 'geneval/overal'; did you mean"):
        run(study, "--metric", "geneval/overal")
