"""The fit of a study: what goes in, what is written down before, and what is said afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from prx_scale import study, studyfit
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import parameters, training_flops
from prx_scale.runs.info import Parameters, State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import ValidationRow
from tests.prx_scale.runs.records import make_info

STUDY = """
[study]
name = "s"
[model]
depth = [1, 2, 3]
patch = 4
[training]
steps = 1000
batch = 10
seed = [0, 1]
[[variant]]
name = "held-out"
model.depth = 4
[fit]
from_fraction = 0.5
holdout = ["held-out"]
bootstrap = 100
"""


def surface(params: float, samples: float) -> float:
    return 0.02 + 3 * params**-0.4 + 5 * samples**-0.5


def record_run(loaded: study.Study, run: RunConfig, luck: float = 1.0, state: State = State.DONE) -> None:
    """Write the record of a run whose losses lie on a known surface."""
    counts, shape = parameters(model_shape(run)), model_shape(run)
    record = RunRecord(loaded.folder / "runs" / run.id)
    info = make_info(
        run.id,
        study=run.study,
        variant=run.variant,
        depth=run.model.depth,
        seed=run.training.seed,
        config=run.to_json(),
        state=state,
        steps=run.training.steps,
        parameters=Parameters(backbone=counts.backbone, embedding=counts.embedding),
        last_good_step=500 if state is State.FAILED else None,
    )
    record.write(info)
    for step in range(100, run.training.steps + 1, 100):
        samples = step * run.training.batch
        loss = luck * surface(counts.backbone, samples)
        for weights, factor in (("raw", 1.1), ("ema", 1.0)):
            record.append(
                ValidationRow(
                    step=step,
                    samples=samples,
                    tokens=samples * run.tokens_per_sample,
                    flops=float(samples * training_flops(shape)),
                    weights=weights,  # type: ignore[arg-type]
                    split="heldout",
                    loss=factor * loss,
                    levels=[0.5, 1.0],
                    loss_per_level=[factor * loss, 1.0],
                    n=8,
                )
            )


@pytest.fixture
def loaded(tmp_path: Path) -> study.Study:
    (tmp_path / "study.toml").write_text(STUDY)
    loaded = study.load(tmp_path)
    for run in loaded.runs:
        if run.variant == "base":
            record_run(loaded, run, luck=1.002 if run.training.seed else 1.0)
    return loaded


def held_out(loaded: study.Study) -> list[RunConfig]:
    return [run for run in loaded.runs if run.variant == "held-out"]


def test_only_averaged_weights_of_the_later_half_of_fitted_runs_go_in(loaded: study.Study) -> None:
    record_run(loaded, held_out(loaded)[0])
    studyfit.fit_study(loaded)
    points = pl.read_csv(loaded.folder / "fit" / "points.csv")
    assert points.columns == ["params", "data", "flops", "loss", "run", "depth", "seed", "step"]
    assert points["step"].unique().sort().to_list() == [500, 600, 700, 800, 900, 1000]
    assert points["depth"].unique().sort().to_list() == [1, 2, 3]
    assert len(points) == 6 * 6
    by_hand = [surface(n, d) for n, d in points.filter(pl.col("seed") == 0).select("params", "data").iter_rows()]
    assert points.filter(pl.col("seed") == 0)["loss"].to_list() == pytest.approx(by_hand)


def test_prediction_is_written_before_and_stays(loaded: study.Study) -> None:
    assert studyfit.refresh(loaded) is None
    path = loaded.folder / "fit" / "prediction.json"
    first = path.read_bytes()
    document = json.loads(first)
    assert document["before_training"] is True
    (forecast,) = document["predictions"]
    run = held_out(loaded)[0]
    truth = surface(parameters(model_shape(run)).backbone, 10_000)
    assert forecast["loss"] == pytest.approx(truth, rel=0.01)
    record_run(loaded, run)
    base = next(run for run in loaded.runs if run.variant == "base")
    record_run(loaded, base, luck=1.5)
    studyfit.refresh(loaded)
    assert path.read_bytes() == first


def test_prediction_made_late_says_so(loaded: study.Study) -> None:
    record_run(loaded, held_out(loaded)[0])
    studyfit.refresh(loaded)
    assert json.loads((loaded.folder / "fit" / "prediction.json").read_text())["before_training"] is False


def test_verdict_says_what_happened(loaded: study.Study) -> None:
    assert studyfit.refresh(loaded) is None
    good, bad = held_out(loaded)
    record_run(loaded, good)
    sentence = studyfit.refresh(loaded)
    assert sentence is not None and sentence.endswith("The prediction held.")
    record_run(loaded, bad, luck=2.0)
    sentence = studyfit.refresh(loaded)
    assert sentence is not None and "held for 1 of 2 seeds" in sentence
    checks = json.loads((loaded.folder / "fit" / "verdict.json").read_text())["checks"]
    assert [check["held"] for check in checks] == [True, False]
    for check in checks:
        low, high = check["interval"]
        assert check["held"] == (low <= check["measured"] <= high)
        assert check["error_relative"] == pytest.approx(check["measured"] / check["predicted"] - 1)
        assert f"{check['measured']:.4f}" in sentence and f"{check['predicted']:.4f}" in sentence


def test_failed_and_unfinished_runs_do_not_poison_fit_or_verdict(loaded: study.Study) -> None:
    clean = studyfit.fit_study(loaded).parameters
    diverged = next(run for run in loaded.runs if run.variant == "base" and run.model.depth == 3)
    other = replace(diverged, training=replace(diverged.training, seed=7))
    record_run(loaded, other, luck=30.0, state=State.FAILED)
    assert studyfit.fit_study(loaded).parameters == clean
    record_run(loaded, held_out(loaded)[0], state=State.RUNNING)
    assert studyfit.refresh(loaded) is None


def test_too_few_points_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    loaded = study.load(tmp_path)
    record_run(loaded, replace(loaded.runs[0], training=replace(loaded.runs[0].training, steps=100)))
    with pytest.raises(InputError, match=str(tmp_path)):
        studyfit.fit_study(loaded)
