"""[[stage]] tables resolve to what every step does; what cannot be right is refused with file, stage and key."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale import study
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import training_flops
from prx_scale.stages import (
    StageSettings,
    as_run,
    rate_factor,
    resolve,
    samples_before,
    stage_at,
    stage_settings,
    step_after,
    step_sources,
)
from prx_scale.stagetables import parse_stages, stages_identity, with_steps

BASE = """
[study]
name = "s"
[model]
depth = 1
position_grid = 64
position_base = 16
[data]
dataset = "random"
image_size = 1024
[objective]
shift_base = 256
[training]
batch = 64
lr = 1e-3
warmup = 10
"""
LADDER = """
[[stage]]
name = "256"
steps = 100
image_size = 256
[[stage]]
name = "512"
steps = 40
image_size = 512
batch = 32
lr_factor = 0.5
warmup = 4
replay = "256"
replay_share = 0.25
[[stage]]
name = "1024"
steps = 20
batch = 16
lr = 2e-4
shift = 3.0
"""


def load(tmp_path: Path, text: str) -> study.Study:
    file = tmp_path / "s.toml"
    file.write_text(text)
    return study.load(file)


def ladder(tmp_path: Path) -> RunConfig:
    return load(tmp_path, BASE + LADDER).runs[0]


def test_a_ladder_resolves(tmp_path: Path) -> None:
    run = ladder(tmp_path)
    assert run.training.steps == 160
    small, middle, large = resolve(run)
    assert [(each.first, each.last, each.image_size, each.batch) for each in (small, middle, large)] == [
        (0, 100, 256, 64),
        (100, 140, 512, 32),
        (140, 160, 1024, 16),
    ]
    assert (small.lr, middle.lr, large.lr) == pytest.approx((1e-3, 5e-4, 2e-4))
    assert (small.warmup, middle.warmup, large.warmup) == (10, 4, 0)
    assert (small.shift, middle.shift, large.shift) == (1.0, 2.0, 3.0), "sqrt of the ratio of tokens, or as given"
    assert (small.replay, middle.replay, middle.replay_share) == (None, 0, 0.25)


def test_a_run_without_stages_is_one(tmp_path: Path) -> None:
    run = load(tmp_path, BASE + "steps = 17").runs[0]
    (only,) = resolve(run)
    assert (only.first, only.last, only.image_size, only.batch, only.lr) == (0, 17, 1024, 64, 1e-3)
    assert (only.warmup, only.shift, only.data, only.replay) == (10, run.shift, (), None)
    assert as_run(run, only) == run
    assert not step_sources(only, 0).replayed.any()


@pytest.mark.parametrize(("step", "name"), [(0, "256"), (99, "256"), (100, "512"), (140, "1024"), (999, "1024")])
def test_steps_have_a_stage(tmp_path: Path, step: int, name: str) -> None:
    assert stage_settings(ladder(tmp_path), step).name == name


def test_rates_follow_stages_and_warm_up_again(tmp_path: Path) -> None:
    stages = resolve(ladder(tmp_path))
    rates = [rate_factor(stages, 1e-3, step) for step in (0, 8, 9, 99, 100, 103, 139, 140)]
    assert rates == pytest.approx([0.1, 0.9, 1.0, 1.0, 0.125, 0.5, 0.5, 0.2])


STAGES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=4)


def settings(stages: list[tuple[int, int]]) -> tuple[StageSettings, ...]:
    firsts = np.cumsum([0, *(steps for steps, _ in stages)]).tolist()
    return tuple(
        StageSettings(
            number=number,
            name=str(number),
            first=first,
            steps=steps,
            image_size=16,
            batch=batch,
            lr=1.0,
            warmup=0,
            shift=1.0,
            data=(),
            replay=None,
            replay_share=0.0,
        )
        for number, (first, (steps, batch)) in enumerate(zip(firsts, stages, strict=False))
    )


@given(stages=STAGES)
def test_samples_are_counted_over_stages(stages: list[tuple[int, int]]) -> None:
    resolved, seen = settings(stages), 0
    for step in range(sum(steps for steps, _ in stages)):
        assert samples_before(resolved, step) == seen
        batch = stage_at(resolved, step).batch
        assert {step_after(resolved, seen + part) for part in range(batch)} == {step}
        seen += batch
    assert samples_before(resolved, sum(steps for steps, _ in stages)) == seen


def test_replay_takes_its_share_of_the_steps_named_by_step() -> None:
    stage = replace(settings([(1000, 8), (20_000, 8)])[1], replay=0, replay_share=0.15)
    sources = step_sources(stage, 5)
    count = int(sources.replayed.sum())
    assert abs(count - 3000) < 4 * math.sqrt(20_000 * 0.15 * 0.85)
    assert sources.places[sources.replayed].tolist() == list(range(count))
    assert sources.places[~sources.replayed].tolist() == list(range(20_000 - count))
    shorter = step_sources(replace(stage, steps=10_000), 5)
    assert shorter.replayed.tolist() == sources.replayed[:10_000].tolist()
    assert step_sources(stage, 6).replayed.tolist() != sources.replayed.tolist()
    assert "".join(map(str, sources.replayed[:24].astype(int))) == GOLDEN, "fixed for good"
    assert stage.order != stage.replay_order


GOLDEN = "110000011000000000000001"


def test_a_stage_by_itself_has_tokens_and_flops(tmp_path: Path) -> None:
    run = ladder(tmp_path)
    runs = [as_run(run, stage) for stage in resolve(run)]
    assert [each.tokens_per_sample for each in runs] == [256, 1024, 4096]
    assert training_flops(model_shape(runs[0])) < training_flops(model_shape(runs[1])) / 3
    assert [each.shift for each in runs[:2]] == [1.0, 2.0]


def test_stages_are_part_of_the_id_only_where_there_are_some(tmp_path: Path) -> None:
    plain = load(tmp_path, BASE + "steps = 160").runs[0]
    assert "stage" not in plain.identity and replace(plain, stages=()).id == plain.id
    staged = ladder(tmp_path)
    assert staged.id != plain.id
    renamed = LADDER.replace('"256"', '"small"').replace('"1024"', '"large"')
    assert load(tmp_path, BASE + renamed).runs[0].id == staged.id
    for old, new in (
        ("replay_share = 0.25", "replay_share = 0.5"),
        ("batch = 32", "batch = 48"),
        ("lr_factor = 0.5", "lr_factor = 0.4"),
        ("image_size = 512", "image_size = 768"),
        ("steps = 40", "steps = 41"),
    ):
        assert load(tmp_path, BASE + LADDER.replace(old, new)).runs[0].id != staged.id


def test_the_id_of_a_run_without_stages_is_what_it_was() -> None:
    example = study.load(Path(__file__).parents[2] / "examples" / "study.toml", Path("unused"))
    assert "d2-uniform-t-s0-b0469007" in {run.id for run in example.runs}


def test_variants_have_stages_of_their_own(tmp_path: Path) -> None:
    text = BASE + LADDER + '[[variant]]\nname = "short"\n[[variant.stage]]\nname = "only"\nsteps = 15\n'
    base, short = load(tmp_path, text).runs
    assert (base.training.steps, short.training.steps) == (160, 15)
    assert [stage.name for stage in short.stages] == ["only"]


def test_run_json_has_the_stages(tmp_path: Path) -> None:
    run = ladder(tmp_path)
    assert study.run_from_json(json.loads(json.dumps(run.to_json())), "run.json") == run
    old = {key: value for key, value in run.to_json().items() if key != "stages"}
    assert study.run_from_json(old, "run.json").stages == ()


def test_sources_have_weights() -> None:
    (stage,) = parse_stages([{"name": "a", "steps": 1, "data": [{"path": "x", "weight": 3}, {"path": "y"}]}], "s.toml:")
    assert [(source.path, source.weight) for source in stage.data] == [("x", 3.0), ("y", 1.0)]


def one(**keys: object) -> list[dict[str, object]]:
    return [{"name": "a", "steps": 1}, {"name": "b", "steps": 1, **keys}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "a"}, "stages are written [[stage]], with two brackets"),
        ([3], "number 1: must be a table"),
        ([{"steps": 1}], "number 1 name: missing"),
        ([{"name": "a"}], "'a' steps: give either steps or epochs"),
        (one(epochs=2), "'b' steps: give either steps or epochs"),
        (one(name="a"), "'a' name: must be a name that no other stage has"),
        (one(imagesize=1), "number 2 imagesize: unknown key; did you mean 'image_size'?"),
        (one(steps=-1), "number 2 steps: -1 is too small"),
        (one(replay_share=1.5), "replay_share: 1.5 is too large"),
        (one(lr=0.1, lr_factor=0.5), "'b' lr: 0.1 beside lr_factor 0.5; give one of them"),
        (one(lr_factor=0), "'b' lr_factor: must be above 0"),
        ([{"name": "a", "steps": 1, "warmup": 1}], "'a' warmup: the first stage has [training] warmup"),
        (one(replay="a"), "'b' replay_share: replay names an earlier stage"),
        (one(replay_share=0.1), "'b' replay_share: replay names an earlier stage"),
        (one(replay="A", replay_share=0.1), "'b' replay: no earlier stage 'A'; valid: a"),
        (one(replay="b", replay_share=0.1), "'b' replay: no earlier stage 'b'"),
        (one(data="x"), "number 2 data: expected a list of sources"),
        (one(data=["x"]), "number 2 data: expected a list of sources"),
        (one(data=[{"weight": 1}]), "number 2 data path: missing"),
        (one(data=[{"path": "x", "weigth": 1}]), "data weigth: unknown key; did you mean 'weight'?"),
        (one(data=[{"path": "x", "weight": 0}]), "'b' data: every weight is 0"),
        (one(steps=0, epochs=1, data=[{"path": "x"}, {"path": "y"}]), "'b' epochs: of several sources"),
    ],
)
def test_tables_that_cannot_be_right_are_refused(content: object, message: str) -> None:
    with pytest.raises(InputError, match=r"^s.toml: ") as refusal:
        parse_stages(content, "s.toml:")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("warmup = 10", "warmup = 10\nsteps = 100")], "[training] steps: 100, but the stages have 160"),
        ([("image_size = 512", "image_size = 520")], "'512' image_size: 520 is not a multiple of the 16 pixels"),
        ([("image_size = 512", "image_size = 1040")], "set [model] position_grid to 65 or more"),
        ([("warmup = 4", "warmup = 41")], "'512' warmup: 41 is more than the 40 steps of the stage"),
        ([("[objective]", "[parallel]\nmicro_batch = 32\n[objective]")], "'1024' batch: 16 is not a multiple"),
        ([("batch = 16", 'batch = 16\ndata = [{path = "x"}]')], "'1024' data: is for [data] dataset = \"store\""),
        ([("steps = 20", "epochs = 20")], "'1024' epochs: the number of samples of its data is not known; give steps"),
    ],
)
def test_stages_that_do_not_fit_the_run_are_refused(tmp_path: Path, edits: list[tuple[str, str]], message: str) -> None:
    text = BASE + LADDER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(InputError, match=r"s\.toml") as refusal:
        load(tmp_path, text)
    assert message in str(refusal.value)


def test_epochs_become_steps_where_samples_are_counted() -> None:
    """An SFT stage: 3,350 images, 10 epochs at batch 64."""
    stages = parse_stages([{"name": "sft", "epochs": 10, "data": [{"path": "curated"}]}], "s.toml:")
    (stage,) = with_steps(stages, 64, lambda stage: 3350, "s.toml:")
    assert stage.steps == 523 and stage.epochs == 10
    assert stages_identity([stage]) == stages_identity([replace(stage, epochs=0.0)])
    (own,) = with_steps([replace(stages[0], batch=32)], 64, lambda stage: 3350, "s.toml:")
    assert own.steps == 1046
    (decimal,) = with_steps([replace(stages[0], epochs=4.35)], 1, lambda stage: 100, "s.toml:")
    assert decimal.steps == 435
    with pytest.raises(InputError, match="10 of 5 samples are less than a batch of 64"):
        with_steps(stages, 64, lambda stage: 5, "s.toml:")
