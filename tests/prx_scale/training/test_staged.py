"""Runs of several stages on a store: image size, batch, rate and replay by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import training_flops
from prx_scale.stages import as_run, rate_factor, resolve, step_sources
from prx_scale.study import load
from prx_scale.training.batches import SampleLoader, TrainingData
from prx_scale.training.optimizers import schedule_config
from prx_scale.turns import Turns
from tests.prx_scale.training.stored import write_staged_study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return load(write_staged_study(tmp_path_factory.mktemp("staged") / "study")).runs[0]


def steps_of(run: RunConfig, world: int, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """x0 and t of each step's whole batch, from a step on."""
    stages = resolve(run)
    loaders = [
        SampleLoader(SampleLoader.Config(run=run), dp_world_size=world, dp_rank=rank, local_batch_size=0)
        for rank in range(world)
    ]
    for each in loaders:
        each.load_state_dict({"seen": Turns(run).totals(first).samples})
    iterators = [iter(each) for each in loaders]
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step in range(first, stages[-1].last):
        stage = next(stage for stage in stages if step < stage.last)
        size = run.parallel.micro_batch or stage.batch // world
        parts = [next(each) for _ in range(stage.batch // (size * world)) for each in iterators]
        found.append((torch.cat([x0 for _, x0 in parts]), torch.cat([inputs["t"] for inputs, _ in parts])))
    return found


def test_each_step_has_the_batch_and_image_size_of_its_stage_or_of_what_it_replays(run: RunConfig) -> None:
    low, high = resolve(run)
    replayed = step_sources(high, run.data.seed).replayed
    assert 0 < replayed.sum() < len(replayed)
    for step, (x0, _) in enumerate(steps_of(run, 1)):
        small = step < low.last or replayed[step - low.last]
        assert len(x0) == (8 if step < low.last else 4)
        assert x0.shape[2] * x0.shape[3] in ((4, 6) if small else (16, 24))


def test_other_numbers_of_ranks_and_restarts_in_any_stage_give_the_same(run: RunConfig) -> None:
    expected = steps_of(run, 1)
    for world, first in ((2, 0), (1, 5), (2, 8), (2, 13)):
        for ours, theirs in zip(expected[first:], steps_of(run, world, first), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_stage_does_not_repeat_the_draws_or_the_order_of_another(run: RunConfig) -> None:
    data = TrainingData(run)
    orders = {data.turns.after(data.turns.totals(step).samples).order for step in range(20)}
    assert orders == {0, 2, 3}
    times = torch.cat([t for _, t in steps_of(run, 1)])
    assert len(times.unique()) == len(times)


def test_a_stage_has_its_rate_after_its_warm_up(run: RunConfig) -> None:
    config = schedule_config(run)
    factors = dict(zip(config.change_steps, config.change_factors, strict=True))
    held = 1.0
    for step in range(20):
        held = factors.get(step, held)
        assert held == pytest.approx(rate_factor(resolve(run), run.training.lr, step))
    assert [factors[step] for step in (0, 8, 9, 10)] == pytest.approx([1 / 4, 0.5 / 3, 1 / 3, 0.5])
    assert config.warmup_steps == 0


def test_totals_count_every_batch_at_its_own_size(run: RunConfig) -> None:
    low, high = resolve(run)
    small, large = (as_run(run, stage) for stage in (low, high))
    replayed = int(np.count_nonzero(step_sources(high, run.data.seed).replayed))
    totals = Turns(run).totals(20)
    own = 12 - replayed
    assert totals.samples == 8 * 8 + 12 * 4
    assert totals.tokens == (64 + 4 * replayed) * 4 + 4 * own * 16
    costs = [training_flops(model_shape(each)) for each in (small, large)]
    assert totals.flops == (64 + 4 * replayed) * costs[0] + 4 * own * costs[1]
    assert Turns(run).totals(8).samples == 64


def test_stages_that_the_store_does_not_have_are_refused(tmp_path: Path) -> None:
    message = r"'next' \[data\] image_size: the store has no latents of 48 pixels, only of 16, 32"
    with pytest.raises(InputError, match=message):
        load(write_staged_study(tmp_path / "study", "[[stage]]\nname = 'next'\nsteps = 3\nimage_size = 48\n"))


def test_drawn_shapes_have_stages_too(tmp_path: Path) -> None:
    text = "[study]\nname = 's'\n[model]\ndepth = 1\nposition_grid = 16\n[training]\nbatch = 8\nwarmup = 1\n"
    stages = "[[stage]]\nname = 'a'\nsteps = 3\n[[stage]]\nname = 'b'\nsteps = 2\nimage_size = 32\nbatch = 4\n"
    (tmp_path / "study.toml").write_text(text + stages)
    batches = steps_of(load(tmp_path).runs[0], 1)
    assert [tuple(x0.shape) for x0, _ in batches] == [(8, 3, 16, 16)] * 3 + [(4, 3, 32, 32)] * 2
