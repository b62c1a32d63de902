"""Stages that train on a mix of stores: what their batches are of, and training through all of them."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prx_scale import runs
from prx_scale.config import RunConfig
from prx_scale.data.heldout import heldout_numbers
from prx_scale.data.stored import StoredHeldout, StoredTraining, latent_scale
from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.errors import InputError
from prx_scale.stages import resolve, step_sources
from prx_scale.study import load
from prx_scale.training.batches import TrainingData
from prx_scale.turns import Turns
from tests.prx_scale.data.stores import CLIP, bucket_of, caption, moments, text_states
from tests.prx_scale.training.mixed import FIRST, KINDS, write_mixed_study
from tests.prx_scale.training.studies import command, ended, run_folder, start, train
from tests.prx_scale.training.test_staged import steps_of
from tests.prx_scale.training.test_store_training import end_at
from tests.prx_scale.training.test_training import assert_same_weights, final_weights

MIXED = ("synthetic", "photos")
"""The sources of the second stage, in their order."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed_study(tmp_path_factory.mktemp("mixed") / "study")


@pytest.fixture(scope="module")
def run(study: Path) -> RunConfig:
    return load(study).runs[0]


def mixed(run: RunConfig) -> StoredTraining:
    """The data of the second stage."""
    return StoredTraining(replace(run, stages=()), 2, resolve(run)[1].data)


def test_each_sample_has_the_latents_and_a_caption_of_its_own_store(run: RunConfig) -> None:
    """Computed anew from what the stores were made of."""
    dataset, met = mixed(run), Counter[tuple[str, str]]()
    scale = latent_scale(StoredHeldout(run).store)
    for step in range(12):
        planned, places = dataset.batches.at(step), np.arange(step * 8, step * 8 + 8)
        samples = dataset.batch(places)
        noise = draw(run.training.seed, Purpose.LATENTS, places, samples.image.shape[1:]).noise
        for row, (pool, number) in enumerate(zip(planned.pools.tolist(), planned.numbers.tolist(), strict=True)):
            name = MIXED[pool]
            mean, std = moments(FIRST[name] + number, bucket_of(number)).bfloat16().float().split(4)
            latent = scale.normalise((mean + std * torch.from_numpy(noise[row]))[None])[0].numpy()
            assert np.allclose(samples.image[row], latent, atol=1e-6)
            wanted = {kind: text_states(caption(FIRST[name] + number, kind), CLIP)[0] for kind in KINDS[name]}
            found = samples.context[row, :77, :8]
            (kind,) = [kind for kind, states in wanted.items() if torch.equal(states.bfloat16(), found)]
            met[name, kind] += 1
    assert set(met) == {("synthetic", "synthetic"), ("photos", "original"), ("photos", "long")}
    assert all(count >= 8 for count in met.values())


def test_shares_are_those_of_the_weights(run: RunConfig) -> None:
    batches = mixed(run).batches
    pools = np.concatenate([batches.at(step).pools for step in range(200)])
    # At most what waits, less than a batch of each of three buckets, is not dealt in proportion.
    assert abs(np.count_nonzero(pools == 1) - 0.75 * len(pools)) <= 3 * 7
    assert np.mean([len(np.unique(batches.at(step).pools)) == 2 for step in range(200)]) > 0.8


def test_held_out_samples_are_left_out_of_every_store(run: RunConfig) -> None:
    dataset = mixed(run)
    for pool, part in enumerate(dataset.parts):
        away = set(heldout_numbers(part.view.assigned, run.data.heldout).tolist())
        planned = [dataset.batches.at(step) for step in range(60)]
        seen = {number for each in planned for number in each.numbers[each.pools == pool].tolist()}
        assert away and not seen & away
        assert len(seen) == np.count_nonzero(part.assigned >= 0)


def test_a_mix_of_one_is_that_store_alone(run: RunConfig) -> None:
    plain = replace(run, stages=())
    (source,) = (source for source in resolve(run)[1].data if source.content == run.data.content)
    for step in range(12):
        places = np.arange(step * 8, step * 8 + 8)
        ours, theirs = (StoredTraining(plain, 2, each).batch(places) for each in ((source,), ()))
        assert np.array_equal(ours.image, theirs.image)
        assert torch.equal(ours.context, theirs.context) and torch.equal(ours.pooled, theirs.pooled)


def test_steps_are_of_the_stores_of_their_stage_or_of_what_it_replays(run: RunConfig) -> None:
    data, stages = TrainingData(run), resolve(run)
    stores = [("synthetic",), ("synthetic", "photos"), ("photos",), ("curated",)]
    met: set[tuple[int, int]] = set()
    for step in range(run.training.steps):
        turn = data.turns.after(data.turns.totals(step).samples)
        stage = stages[turn.stage]
        again = step_sources(stage, run.data.seed).replayed[step - stage.first]
        of = stage.replay if again else stage.number
        assert of is not None
        _, dataset = data.after(turn.first)
        names = tuple(Path(part.store.folder).name for part in dataset.dataset.parts)  # type: ignore[attr-defined]
        assert names == stores[of]
        assert turn.run.data.image_size == (16 if of == 0 else 32)
        met.add((stage.number, of))
    assert met == {(0, 0), (1, 1), (1, 0), (2, 2), (2, 1), (3, 3)}


def test_other_numbers_of_ranks_and_restarts_in_any_stage_give_the_same(run: RunConfig) -> None:
    expected = steps_of(run, 1)
    assert len(expected) == run.training.steps
    for world, first in ((2, 0), (1, 2), (2, 7), (2, 14), (1, 19)):
        for ours, theirs in zip(expected[first:], steps_of(run, world, first), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_training_refuses_a_source_that_changed(tmp_path: Path) -> None:
    run = load(write_mixed_study(tmp_path / "study")).runs[0]
    (tmp_path / "synthetic").rename(tmp_path / "gone")
    (tmp_path / "curated").rename(tmp_path / "synthetic")
    with pytest.raises(InputError, match=r"\[\[stage.data\]\] path: .*synthetic holds .* but the run trains on"):
        mixed(run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained without a break: synthetic, mixed with replay, real with replay of the mix, curated in epochs."""
    study = write_mixed_study(tmp_path_factory.mktemp("whole") / "stored")
    done = train(study)
    assert done.returncode == 0, done.stderr
    return study


@pytest.mark.slow
def test_training_killed_in_a_mixed_stage_resumes_bitwise(whole: Path, tmp_path: Path) -> None:
    study = write_mixed_study(tmp_path / "stored")
    assert end_at(study, 9, signal.SIGKILL) == -signal.SIGKILL
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(whole) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    assert_same_weights(final_weights(study, tmp_path, 22), final_weights(whole, tmp_path, 22))
    rows = runs.load(study, "train")
    assert rows["loss"].equals(runs.load(whole, "train")["loss"])
    assert rows["samples"].to_list() == [Turns(load(study).runs[0]).totals(step).samples for step in rows["step"]]


@pytest.mark.slow
def test_training_goes_on_with_two_processes(whole: Path, tmp_path: Path) -> None:
    study = write_mixed_study(tmp_path / "stored")
    assert end_at(study, 9, signal.SIGTERM) == 130
    assert [code for code, _ in ended(start(command(study), 2))] == [0, 0]
    for table in ("train", "validation"):
        one, two = (runs.load(each, table) for each in (whole, study))  # type: ignore[arg-type]
        assert one["step"].equals(two["step"])
        assert (one["loss"] - two["loss"]).abs().max() < 1e-5  # type: ignore[operator]
