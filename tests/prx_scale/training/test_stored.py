"""What training takes out of a store: batches of one bucket, captions, latents, a held-out share; what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prx_scale.config import RunConfig
from prx_scale.data.heldout import heldout_numbers
from prx_scale.data.stored import StoredHeldout, StoredTraining, latent_scale
from prx_scale.errors import InputError
from prx_scale.layout import check_layout
from prx_scale.models.build import model_shape
from prx_scale.models.encoders.image.normalisation import LatentScale
from prx_scale.models.inputs import inputs_of
from prx_scale.models.sizes import parameters
from prx_scale.stores import STORES, check_there
from prx_scale.study import keep_copy, load, run_from_json
from prx_scale.training.batches import SampleLoader, training_batch, validation_batch
from prx_scale.training.validation import Validator
from tests.prx_scale.data.stores import FLUX2, IMAGE, bucket_of, make, recipe, with_image
from tests.prx_scale.training.stored import SAMPLES, write_study

SHAPES = {0: (6, 4), 1: (4, 4), 2: (4, 6)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("stored") / "study")


@pytest.fixture(scope="module")
def run(study: Path) -> RunConfig:
    return load(study).runs[0]


def loader(run: RunConfig, *, rank: int, world: int, size: int = 2) -> SampleLoader:
    return SampleLoader(SampleLoader.Config(run=run), dp_world_size=world, dp_rank=rank, local_batch_size=size)


def steps_of(run: RunConfig, world: int, steps: int, seen: int = 0) -> list[torch.Tensor]:
    """x0 of each step's whole batch, as `world` ranks have it in micro-batches of 2, in the order of places."""
    loaders = [loader(run, rank=rank, world=world) for rank in range(world)]
    for each in loaders:
        each.load_state_dict({"seen": seen})
    iterators = [iter(each) for each in loaders]
    micro = run.training.batch // (2 * world)
    found = [torch.cat([next(each)[1] for _ in range(micro) for each in iterators]) for _ in range(steps)]
    assert {each.state_dict()["seen"] for each in loaders} == {seen + steps * run.training.batch}
    return found


def test_a_step_has_one_bucket_on_all_ranks_and_resumes_on_other_numbers_of_them(run: RunConfig) -> None:
    one = steps_of(run, 1, 24)
    assert {tuple(x0.shape[2:]) for x0 in one} == set(SHAPES.values())
    for world in (2, 4):
        for ours, theirs in zip(one, steps_of(run, world, 24), strict=True):
            assert torch.equal(ours, theirs)
    for ours, theirs in zip(one[13:], steps_of(run, 2, 11, seen=13 * run.training.batch), strict=True):
        assert torch.equal(ours, theirs)


def test_an_epoch_has_every_sample_that_is_not_held_out(run: RunConfig) -> None:
    dataset, heldout = StoredTraining(run), set(StoredHeldout(run).numbers.tolist())
    length = np.count_nonzero(dataset.parts[0].assigned >= 0)
    seen = [number for step in range(3 * length // 8) for number in dataset.batches.at(step).numbers.tolist()]
    away = heldout_numbers(dataset.parts[0].view.assigned, run.data.heldout).tolist()
    assert heldout <= set(away) and len(away) == pytest.approx(0.2 * SAMPLES * 0.8, abs=6)
    assert set(seen) == {number for number in range(SAMPLES) if bucket_of(number) >= 0} - set(away)
    assert length == len(set(seen))


def test_captions_and_latents_are_named_by_place_and_normalised(run: RunConfig) -> None:
    dataset = StoredTraining(run)
    places = np.arange(8)
    first = dataset.batch(places)
    assert np.array_equal(first.image, StoredTraining(run).batch(places).image)
    numbers = dataset.batches.at(0).numbers
    step = next(step for step in range(1, 60) if set(dataset.batches.at(step).numbers.tolist()) & set(numbers.tolist()))
    again = dataset.batches.at(step).numbers
    number = next(iter(set(again.tolist()) & set(numbers.tolist())))
    other = dataset.batch(np.arange(step * 8, step * 8 + 8)).image[again.tolist().index(number)]
    assert not np.allclose(first.image[numbers.tolist().index(number)], other)
    values = np.concatenate([dataset.batch(np.arange(s * 8, s * 8 + 8)).image.reshape(8, 4, -1) for s in range(8)], 2)
    assert np.allclose(values.mean(axis=(0, 2)), 0, atol=0.15) and np.allclose(values.std(axis=(0, 2)), 1, atol=0.15)
    assert latent_scale(dataset.parts[0].store).origin == "measured"


def test_published_numbers_normalise_where_there_are(tmp_path: Path, run: RunConfig) -> None:
    known = recipe(8)
    make(tmp_path / "store", with_image(known, replace(IMAGE, scale=1.5, shift=0.1)))
    study = write_study(tmp_path / "study")
    scale = latent_scale(StoredTraining(load(study).runs[0]).parts[0].store)
    assert (scale.shift, scale.scale) == ((0.1,), (1.5,))


def test_numbers_by_channel_normalise_and_an_older_store_without_them_is_measured(tmp_path: Path) -> None:
    shift, scale = (0.1, -0.2, 0.3, 0.0), (1.0, 2.0, 3.0, 0.5)
    new = replace(FLUX2, shift=shift, scale=scale)
    images, scales = list[np.ndarray](), list[LatentScale]()
    for number, spec in enumerate((FLUX2, new)):
        make(tmp_path / str(number) / "store", with_image(recipe(SAMPLES), spec))
        dataset = StoredTraining(load(write_study(tmp_path / str(number) / "study")).runs[0])
        images.append(dataset.batch(np.arange(8)).image)
        scales.append(dataset.scale)
    assert scales[0] == dataset.parts[0].store.statistics(32).scale() and scales[0].origin == "measured"
    assert scales[1] == LatentScale(shift=shift, scale=scale, origin="batch norm")
    same = scales[1].normalise(scales[0].restore(torch.from_numpy(images[0])))
    torch.testing.assert_close(torch.from_numpy(images[1]), same, rtol=0, atol=2e-6)


def test_a_caption_is_of_a_kind_that_the_sample_has(run: RunConfig) -> None:
    dataset = StoredTraining(run)
    (part,) = dataset.parts
    kinds: set[int] = set()
    for step in range(12):
        numbers, places = dataset.batches.at(step).numbers, np.arange(step * 8, step * 8 + 8)
        chosen = part.mix.choose_kinds(part.store.available(numbers, part.mix.kinds), seed=0, indices=places)
        encoded = part.view.batch(numbers, chosen)
        clip = encoded.states["clip-l"].tokens
        assert clip is not None
        want = torch.from_numpy(clip.bits).view(torch.bfloat16).float()
        assert torch.equal(dataset.batch(places).context[:, :77, :8].float(), want)
        kinds |= set(chosen.tolist())
    assert kinds == {0, 1}


def test_the_condition_is_dropped_as_for_other_data(run: RunConfig) -> None:
    without = replace(run, objective=replace(run.objective, caption_dropout=1.0))
    batch = training_batch(without, StoredTraining(run), np.arange(8))
    assert not batch.context.any() and not batch.pooled.any() and batch.x0.any()
    apart = replace(run, objective=replace(run.objective, caption_dropout=0.0, encoder_dropout=1.0))
    assert not training_batch(apart, StoredTraining(run), np.arange(8)).context.any()
    kept = replace(run, objective=replace(run.objective, caption_dropout=0.0))
    assert training_batch(kept, StoredTraining(run), np.arange(8)).context.any(dim=(1, 2)).all()


def test_padding_is_told_where_an_encoder_masks_it_and_a_dropped_one_has_no_tokens(run: RunConfig) -> None:
    dataset = StoredTraining(run)

    def mask(**dropout: float) -> torch.Tensor:
        changed = replace(run, objective=replace(run.objective, **{"caption_dropout": 0.0, **dropout}))
        found = training_batch(changed, dataset, np.arange(8)).mask
        assert found is not None and found[:, :77].all()  # those of the CLIP, which reads padding
        return found[:, 77:]

    whole = mask()
    batch = training_batch(replace(run, objective=replace(run.objective, caption_dropout=0.0)), dataset, np.arange(8))
    assert torch.equal(whole, batch.context[:, 77:].abs().amax(2) > 0) and len(set(whole.sum(1).tolist())) > 2
    assert not mask(caption_dropout=1.0).any() and not mask(encoder_dropout=1.0).any()
    told, half = whole.any(1), mask(encoder_dropout=0.5)
    kept = half.any(1)
    assert torch.equal(half, whole & kept[:, None]) and kept.any() and (told & ~kept).any()
    assert validation_batch(run, StoredHeldout(run), np.arange(4)).mask is not None


def test_sizes_that_say_nothing_of_masks_are_read_as_before(run: RunConfig) -> None:
    assert "text gemma 77 86 0 10 0 0 masked" in run.data.sizes and "text clip-l 0 77 0 8 0 5" in run.data.sizes
    lines = tuple(line.removesuffix(" masked") for line in run.data.sizes)
    before = replace(run, data=replace(run.data, sizes=lines))
    assert inputs_of(run.data).masked and not inputs_of(before.data).masked and before.id == run.id
    batch = training_batch(before, StoredTraining(before), np.arange(8))
    assert batch.mask is None and "mask" not in batch.conditions
    assert torch.equal(batch.context, training_batch(run, StoredTraining(run), np.arange(8)).context)


def test_a_store_without_pooled_states_is_trained_on(tmp_path: Path) -> None:
    known = recipe(SAMPLES)
    make(tmp_path / "store", replace(known, text=known.text[1:]))
    (alone,) = load(write_study(tmp_path / "study")).runs
    assert inputs_of(alone.data).pooled_dim == 0 and parameters(model_shape(alone)).pooled_embed == 0
    batch = training_batch(alone, StoredTraining(alone), np.arange(8))
    assert batch.pooled.shape == (8, 0) and batch.mask is not None and batch.mask.shape == (8, 9)


class Zero(torch.nn.Module):
    """Predicts nothing."""

    def forward(self, z: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.zeros_like(z)


def test_validation_is_the_same_for_every_run_and_number_of_ranks(run: RunConfig) -> None:
    others = replace(run, training=replace(run.training, seed=3), captions=replace(run.captions, kinds=("original",)))
    cpu = torch.device("cpu")
    expected = Validator(run, device=cpu, rank=0, world=1).losses(Zero())
    assert Validator(others, device=cpu, rank=0, world=1, micro_batch=3).losses(Zero()).loss == pytest.approx(
        expected.loss, rel=1e-12
    )
    for world in (2, 3):
        parts = [Validator(run, device=cpu, rank=rank, world=world) for rank in range(world)]
        shapes = [[len(items) for items, _, _ in part._own_batches()] for part in parts]
        assert all(each == shapes[0] for each in shapes)
        counted = [i for part in parts for items, counts, _ in part._own_batches() for i in items[counts].tolist()]
        assert sorted(counted) == list(range(7 * 8))


def test_fewer_held_out_than_validation_takes_are_refused(run: RunConfig) -> None:
    with pytest.raises(InputError, match=r"\[validation\] images: 50, but \[data\] heldout = 0.2 leaves"):
        StoredHeldout(replace(run, validation=replace(run.validation, images=50)))


def test_samples_without_a_wanted_caption_are_left_out_or_have_the_empty_one(run: RunConfig) -> None:
    long = replace(run, captions=replace(run.captions, kinds=("long",), weights=(1.0,)))
    skipping = StoredTraining(long)
    assert all(number % 3 != 1 for step in range(9) for number in skipping.batches.at(step).numbers)
    empty = StoredTraining(replace(long, captions=replace(long.captions, missing="empty")))
    step = next(step for step in range(60) if empty.batches.at(step).bucket == 1)
    context = empty.batch(np.arange(step * 8, step * 8 + 8)).context
    assert bool((context == context[:1]).all())


def test_the_run_is_named_by_content_and_not_by_place(study: Path, run: RunConfig, tmp_path: Path) -> None:
    elsewhere = load(write_study(tmp_path / "study")).runs[0]
    assert elsewhere.id == run.id and elsewhere.data.path != run.data.path
    make(tmp_path / "other" / "store", recipe(SAMPLES, states="fp8"))
    assert load(write_study(tmp_path / "other" / "study")).runs[0].id != run.id
    pinned = load(write_study(tmp_path / "pinned", data=f'content = "{run.data.content}"'))
    assert pinned.runs[0].id == run.id


def test_run_json_has_all_that_a_model_needs(run: RunConfig) -> None:
    back = run_from_json(json.loads(json.dumps(run.to_json())), "run.json")
    assert back == run and back.id == run.id
    gone = replace(back, data=replace(back.data, path="/nowhere"))
    inputs = inputs_of(gone.data)
    assert (inputs.channels, inputs.context_dim, inputs.pooled_dim, inputs.token_groups) == (4, 10, 5, (77, 9))
    assert [encoder.name for encoder in inputs.encoders] == ["clip-l", "gemma"]
    assert parameters(model_shape(gone)).backbone > 0
    assert (gone.data.downsampling, gone.token_counts) == (8, (4, 6))


def test_a_study_folder_is_read_where_the_store_is_not(tmp_path: Path) -> None:
    study = load(write_study(tmp_path / "here" / "study"), tmp_path / "runs")
    keep_copy(study)
    (tmp_path / "here" / "store").rename(tmp_path / "gone")
    assert load(tmp_path / "runs").runs[0].id == study.runs[0].id
    (tmp_path / "runs" / STORES).unlink()
    with pytest.raises(InputError, match=r"\[data\] path: .*no store in it"):
        load(tmp_path / "runs")


def test_training_refuses_a_store_that_changed_or_is_not_whole(tmp_path: Path) -> None:
    run = load(write_study(tmp_path / "study")).runs[0]
    check_there(run, "run.json")
    shard = next((tmp_path / "store" / "shards").rglob("*.safetensors"))
    shard.rename(tmp_path / "away")
    with pytest.raises(InputError, match=shard.name):
        check_there(run, "run.json")
    (tmp_path / "store").rename(tmp_path / "old")
    known = recipe(SAMPLES)
    identity = replace(known.text[0].identity, files={"model/a": "another"})
    make(tmp_path / "store", replace(known, text=(replace(known.text[0], identity=identity), known.text[1])))
    with pytest.raises(InputError, match=f"but the run trains on {run.data.content}"):
        StoredTraining(run)
    with pytest.raises(InputError, match=r"content: .*latents of kl-4, text states of clip-l and gemma"):
        load(write_study(tmp_path / "pinned", data=f'content = "{run.data.content}"'))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 0}, r"\[model\] position_grid: .* reach 3; set it to 3 or more"),
        ({"data": "encoders = 2"}, r'\[data\] encoders: is for dataset = "shapes"'),
        (
            {"more": "[[variant]]\nname = 'x'\ndata.image_size = 64\n"},
            r"image_size: the store has no latents of 64 .*32",
        ),
        (
            {"more": "[[variant]]\nname = 'x'\nmodel.patch = 4\nmodel.position_grid = 2\n"},
            r"\[model\] patch: 4 .*48x32",
        ),
        ({"more": "[[variant]]\nname = 'x'\ncaptions.kinds = ['lnog', 'original']\n"}, r"captions.*'lnog'.*long"),
        ({"more": "[[variant]]\nname = 'x'\ncaptions.classes = 'names.txt'\n"}, r"\[captions\] templates"),
        ({"more": "[[variant]]\nname = 'x'\ncaptions.weights = [1.0]\n"}, r"\[captions\] weights"),
        ({"more": "[[variant]]\nname = 'x'\ndata.dataset = 'shapes'\n"}, r'\[data\] path: is for dataset = "store"'),
        ({"more": "[[variant]]\nname = 'x'\ndata.path = 'nowhere'\n"}, r"\[data\] path: .*nowhere"),
        ({"more": "[[variant]]\nname = 'x'\ndata.path = ''\n"}, r"\[data\] path: missing"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_study_is_loaded(
    study: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "store").symlink_to(study.parent / "store")
    with pytest.raises(InputError, match=message):
        load(write_study(tmp_path / "study", **options))  # type: ignore[arg-type]


def test_three_weight_sets_need_two_groups_of_text(tmp_path: Path) -> None:
    known = recipe(8)
    make(tmp_path / "store", replace(known, text=known.text[:1]))
    more = "[[variant]]\nname = 'x'\nmodel.weight_sets = 3\n"
    with pytest.raises(InputError, match=r"\[model\] weight_sets: 3 .*the store has 1"):
        load(write_study(tmp_path / "study", more=more))


def test_captions_are_refused_beside_other_data(tmp_path: Path) -> None:
    text = "[study]\nname = 's'\n[model]\ndepth = 1\n[training]\nsteps = 100\n[captions]\nkinds = ['long']\n"
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match=r'\[captions\]: is for dataset = "store"'):
        load(tmp_path)


def test_a_layout_must_suit_every_bucket(run: RunConfig) -> None:
    """Squares have 4 tokens, the others 6: their greatest common divisor takes 1 process, 4 alone would take 2."""
    with pytest.raises(InputError, match="does not divide the 4, 6 image tokens; possible: 1"):
        check_layout(replace(run, parallel=replace(run.parallel, cp=2)), "x")
