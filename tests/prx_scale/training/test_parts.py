"""Averaged weights, batches and validation, piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prx_scale.config import RunConfig
from prx_scale.data.opening import open_dataset
from prx_scale.data.shapes.captions import MAX_TOKENS
from prx_scale.data.shapes.dataset import ShapesBatch, ShapesDataset
from prx_scale.diffusion.draws import Indices, Purpose, draw
from prx_scale.models.encoders.states import TextStates
from prx_scale.study import load
from prx_scale.training import validation
from prx_scale.training.batches import SampleLoader, drop_conditions, training_batch, validation_batch
from prx_scale.training.ema import AveragedWeights, decay_at
from prx_scale.training.validation import Validator

STUDY = """
[study]
name = "s"
[model]
depth = 1
patch = 4
[training]
steps = 100
batch = 12
[validation]
images = 5
levels = 4
"""


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    (tmp_path / "study.toml").write_text(STUDY)
    return load(tmp_path).runs[0]


def test_average_follows_its_recursion_and_is_put_in_place_and_taken_out() -> None:
    model = nn.Linear(3, 2)
    average = AveragedWeights(model, decay=0.9)
    expected = model.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.normal_(generator=torch.Generator().manual_seed(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    raw = model.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, raw)


def test_decay_grows_to_its_limit() -> None:
    decays = [decay_at(step, 0.99) for step in range(1, 2000)]
    assert decays[0] == pytest.approx(2 / 11)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99


def test_loaders_of_all_ranks_together_see_every_sample_once(run: RunConfig) -> None:
    def seen(world: int, size: int, rounds: int) -> torch.Tensor:
        loaders = [
            iter(SampleLoader(SampleLoader.Config(run=run), dp_world_size=world, dp_rank=rank, local_batch_size=size))
            for rank in range(world)
        ]
        return torch.cat([next(loader)[1] for _ in range(rounds) for loader in loaders])

    assert torch.equal(seen(1, 12, 2), seen(2, 6, 2))
    assert torch.equal(seen(1, 12, 2), seen(3, 2, 4))


def test_loader_goes_on_where_it_stopped_on_another_number_of_ranks(run: RunConfig) -> None:
    config = SampleLoader.Config(run=run)
    whole = iter(SampleLoader(config, dp_world_size=1, dp_rank=0, local_batch_size=12))
    next(whole)
    first = SampleLoader(config, dp_world_size=2, dp_rank=1, local_batch_size=6)
    next(iter(first))
    resumed = SampleLoader(config, dp_world_size=1, dp_rank=0, local_batch_size=12)
    resumed.load_state_dict(first.state_dict())
    for ours, theirs in zip(next(iter(resumed)), next(whole), strict=True):
        if isinstance(ours, dict):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        else:
            assert torch.equal(ours, theirs)


def test_share_of_samples_without_condition(run: RunConfig) -> None:
    batch = training_batch(run, ShapesDataset(), np.arange(3000))
    dropped = batch.context.flatten(1).abs().amax(1) == 0
    assert torch.equal(dropped, batch.pooled.abs().amax(1) == 0)
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert batch.t.min() > 0 and batch.t.max() < 1


def test_validation_is_the_same_for_every_seed_of_a_run(run: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("steps = 100", "steps = 100\nseed = 5"))
    other = load(tmp_path).runs[0]
    items = np.arange(20)
    a, b = (validation_batch(each, ShapesDataset(split="heldout"), items) for each in (run, other))
    assert torch.equal(a.noise, b.noise) and torch.equal(a.x0, b.x0)
    assert a.t.tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0] * 5)
    assert torch.equal(a.x0[0], a.x0[3]) and not torch.equal(a.noise[0], a.noise[3])


class Zero(nn.Module):
    """Predicts no velocity at all."""

    def forward(self, z: torch.Tensor, *, t: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(z)


class Counting(ShapesDataset):
    """Held-out shapes that count the batches made of them."""

    batches = 0

    def batch(self, indices: Indices) -> ShapesBatch:
        self.batches += 1
        return super().batch(indices)


def test_validation_loss_of_a_known_model(run: RunConfig) -> None:
    """A model that predicts zero has loss mean (eps - x0)^2 at every level."""
    losses = Validator(run, device=torch.device("cpu"), rank=0, world=1).losses(Zero())
    batch = validation_batch(run, ShapesDataset(split="heldout"), np.arange(20))
    errors = (batch.noise - batch.x0).square().flatten(1).mean(1).reshape(5, 4).mean(0)
    assert losses.levels == [0.25, 0.5, 0.75, 1.0]
    assert losses.loss_per_level == pytest.approx(errors.tolist(), rel=1e-6)
    assert losses.loss == pytest.approx(errors[:3].mean().item(), rel=1e-6)


def test_validation_items_are_dealt_out_without_loss_or_double_counting(run: RunConfig) -> None:
    whole = Validator(run, device=torch.device("cpu"), rank=0, world=1).losses(Zero())
    for world in (2, 3, 7):
        parts = [Validator(run, device=torch.device("cpu"), rank=rank, world=world) for rank in range(world)]
        counts = [sum(len(items) for items, _, _ in part._own_batches()) for part in parts]
        assert len(set(counts)) == 1
        items = [item for part in parts for batch, counts, _ in part._own_batches() for item in batch[counts].tolist()]
        assert sorted(items) == list(range(20))
    assert whole.loss > 0


@pytest.mark.parametrize(("room", "made"), [(0, 4), (1, 3), (2, 2), (100, 2)])
def test_batches_without_room_in_memory_are_made_anew(
    run: RunConfig, monkeypatch: pytest.MonkeyPatch, room: int, made: int
) -> None:
    """Of two batches in two validations."""
    expected = Validator(run, device=torch.device("cpu"), rank=0, world=1, micro_batch=10).losses(Zero())
    size = validation_batch(run, ShapesDataset(split="heldout"), np.arange(10)).nbytes
    monkeypatch.setattr(validation, "KEPT_BYTES", room * size)
    counted = Counting(split="heldout")
    validator = Validator(run, device=torch.device("cpu"), rank=0, world=1, micro_batch=10, dataset=counted)
    assert [validator.losses(Zero()) for _ in range(2)] == [expected] * 2
    assert counted.batches == made


def test_each_encoder_is_dropped_by_itself(tmp_path: Path) -> None:
    """As SD3's are: two CLIPs side by side in the same tokens, T5 after them; 0.464^3 lose all three."""
    study = STUDY.replace("patch = 4", "patch = 2") + "[data]\ndataset = 'random'\nimage_size = 16\n"
    (tmp_path / "study.toml").write_text(study + "[objective]\ncaption_dropout = 0.0\nencoder_dropout = 0.464\n")
    run = load(tmp_path).runs[0]
    draws = draw(0, Purpose.TRAINING, np.arange(500), (1,), more=3)
    context, pooled = np.ones((500, 154, 4096), dtype=np.int8), np.ones((500, 2048), dtype=np.int8)
    drop_conditions(run, draws, TextStates(tokens=torch.from_numpy(context), pooled=torch.from_numpy(pooled)))
    clip_l, clip_g, t5 = context[:, 5, 5] == 0, context[:, 5, 900] == 0, context[:, 100, 5] == 0
    assert np.array_equal(clip_l, pooled[:, 0] == 0) and np.array_equal(clip_g, pooled[:, 768] == 0)
    for dropped in (clip_l, clip_g, t5):
        assert dropped.mean() == pytest.approx(0.464, abs=0.08)
    assert (clip_l & clip_g & t5).mean() == pytest.approx(0.0999, abs=0.05)
    assert (context[clip_l & ~clip_g, 0, 768:2048] == 1).all() and (context[~t5, 77:] == 1).all()


def test_two_encoders_of_the_shapes_can_be_dropped_apart(tmp_path: Path) -> None:
    more = "[data]\nencoders = 2\n[objective]\nencoder_dropout = 0.5\ncaption_dropout = 0.0\n"
    (tmp_path / "study.toml").write_text(STUDY + more)
    run = load(tmp_path).runs[0]
    batch = training_batch(run, open_dataset(run, "train"), np.arange(400))
    words, context = (part.flatten(1).abs().amax(1) == 0 for part in batch.context.split(MAX_TOKENS, dim=1))
    assert torch.equal(words, batch.pooled.abs().amax(1) == 0)
    assert (words & ~context).any() and (~words & context).any() and (words & context).any()


def test_more_draws_leave_the_others_alone() -> None:
    few, many = (draw(3, Purpose.TRAINING, np.arange(5), (2, 3), more=more) for more in (0, 4))
    assert np.array_equal(few.noise, many.noise) and np.array_equal(few.normal, many.normal)
    assert many.more.shape == (5, 4) and ((many.more >= 0) & (many.more < 1)).all()


def test_resolution_shifts_the_timesteps(tmp_path: Path) -> None:
    plain, moved = (tmp_path / name for name in ("plain", "moved"))
    for folder, more in ((plain, ""), (moved, "[objective]\nshift = 1.5\nshift_base = 8\n")):
        folder.mkdir()
        (folder / "study.toml").write_text(STUDY + more)
    a, b = (load(folder).runs[0] for folder in (plain, moved))
    assert (a.shift, b.shift) == (1.0, 3.0)
    t, shifted_t = (training_batch(run, open_dataset(run, "train"), np.arange(50)).t.double() for run in (a, b))
    torch.testing.assert_close(torch.logit(shifted_t), torch.logit(t) + np.log(3.0), atol=1e-4, rtol=1e-4)


def test_random_samples_belong_to_their_index(tmp_path: Path) -> None:
    study = STUDY.replace("patch = 4", "patch = 2") + "[data]\ndataset = 'random'\nimage_size = 32\n"
    (tmp_path / "study.toml").write_text(study)
    run = load(tmp_path).runs[0]
    training, heldout = (open_dataset(run, split) for split in ("train", "heldout"))
    batch, alone = training.batch(np.array([4, 7])), training.batch(np.array([7]))
    shapes = batch.image.shape, batch.context.shape, batch.pooled.shape
    assert shapes == ((2, 16, 4, 4), (2, 154, 4096), (2, 2048))
    assert np.array_equal(batch.image[1], alone.image[0]) and np.array_equal(batch.pooled[1], alone.pooled[0])
    assert not np.array_equal(heldout.batch(np.array([7])).image, alone.image)
