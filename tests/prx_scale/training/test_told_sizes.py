"""Size and crop of real encodings: which numbers arrive, and runs that are told them on any layout."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from prx_scale import runs
from prx_scale.data.framing import frame
from prx_scale.data.opening import open_dataset
from prx_scale.data.store import Store, layout
from prx_scale.data.stored import StoredHeldout, StoredTraining
from prx_scale.study import load
from prx_scale.training.batches import SampleLoader, training_batch, validation_batch
from prx_scale.training.validation import Validator
from tests.prx_scale.training.studies import info, run_folder, train
from tests.prx_scale.training.test_layouts import assert_close, train_each
from tests.prx_scale.training.test_store_training import end_at
from tests.prx_scale.training.test_training import assert_same_weights, final_weights
from tests.prx_scale.training.told import IMAGES, size_of, write_store, write_study

STEPS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in it."""
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRX_SCALE_CACHE", str(folder / "cache"))
        write_store(folder)
    return folder


@pytest.fixture(scope="module")
def study(base: Path) -> Path:
    return write_study(base / "study")


@pytest.fixture(scope="module")
def silent(base: Path) -> Path:
    return write_study(base / "silent", model="")


def told_of(store: Store, numbers: list[int]) -> list[list[int]]:
    """What the images themselves say that a model is to be told of samples."""
    view = store.at(store.recipe.resolutions[0].image_size)
    keys = pl.concat(
        [pl.read_parquet(layout.shard_file(store.folder, shard, "parquet")) for shard in range(store.recipe.shards)]
    )["key"]
    images = [int(keys[number].rsplit("/", 1)[1]) for number in numbers]
    buckets = [view.buckets[view.assigned[number]] for number in numbers]
    return [list(frame(size_of(image), bucket).conditioning) for image, bucket in zip(images, buckets, strict=True)]


@pytest.mark.parametrize("world", [1, 2])
def test_each_sample_comes_with_its_own_numbers(study: Path, world: int) -> None:
    (run,) = load(study).runs
    dataset = StoredTraining(run)
    assert len(dataset.parts[0].view.buckets) == 3 and len(dataset.parts[0].view.assigned) == IMAGES
    loaders = [
        iter(SampleLoader(SampleLoader.Config(run=run), dp_world_size=world, dp_rank=rank, local_batch_size=2))
        for rank in range(world)
    ]
    seen: set[tuple[int, ...]] = set()
    for step in range(STEPS):
        parts = [next(each) for _ in range(2 // world) for each in loaders]
        size = torch.cat([inputs["size"] for inputs, _ in parts])
        assert size.dtype == torch.float32
        assert size.tolist() == told_of(dataset.parts[0].store, dataset.batches.at(step).numbers.tolist())
        assert all(tuple(x0.shape[2:]) == (row[4] // 8, row[5] // 8) for row in size.tolist() for _, x0 in parts)
        seen |= {tuple(row) for row in size.int().tolist()}
    assert len(seen) > 20 and any(row[2] for row in seen) and any(row[3] for row in seen)


def test_validation_has_the_numbers_of_the_held_out(study: Path) -> None:
    (run,) = load(study).runs
    held = StoredHeldout(run)
    items = np.array([0, 1, 2, 3])
    expected = told_of(held.store, held.numbers[items // run.validation.levels].tolist())
    batch = validation_batch(run, held, items)
    assert batch.size is not None and batch.size.tolist() == expected

    class Listening(torch.nn.Module):
        def forward(self, z: torch.Tensor, *, size: torch.Tensor, **_: object) -> torch.Tensor:
            heard.extend(size.int().tolist())
            return torch.zeros_like(z)

    heard: list[list[int]] = []
    Validator(run, device=torch.device("cpu"), rank=0, world=1).losses(Listening())
    assert sorted(heard) == sorted(told_of(held.store, held.numbers.tolist()) * run.validation.levels)


def test_without_the_key_nothing_is_told_and_the_id_is_what_it_was(base: Path, study: Path, silent: Path) -> None:
    (told,), (plain,) = load(study).runs, load(silent).runs
    (false,) = load(write_study(base / "false", model="size_conditioning = false")).runs
    assert plain.id == false.id != told.id and "size_conditioning" not in plain.identity["model"]
    batch, other = (training_batch(run, StoredTraining(run), np.arange(4)) for run in (plain, told))
    assert batch.size is None and "size" not in batch.conditions
    assert torch.equal(batch.x0, other.x0) and torch.equal(batch.noise, other.noise) and torch.equal(batch.t, other.t)


@pytest.mark.parametrize(("dataset", "pixels"), [("shapes", 32), ("random", 64)])
def test_images_that_were_never_cut_say_so(dataset: str, pixels: int, tmp_path: Path) -> None:
    text = "[study]\nname = 's'\n[model]\ndepth = 1\nsize_conditioning = true\n[training]\nsteps = 2\nwarmup = 1\n"
    (tmp_path / "study.toml").write_text(f"{text}[data]\ndataset = '{dataset}'\nimage_size = {pixels}\n")
    (run,) = load(tmp_path).runs
    batch = training_batch(run, open_dataset(run, "train"), np.arange(2))
    assert batch.size is not None and batch.size.tolist() == [[pixels, pixels, 0, 0, pixels, pixels]] * 2


@pytest.fixture(scope="module")
def uninterrupted(study: Path, silent: Path) -> Path:
    """The study that is told, trained by one process, as the one that is not."""
    train_each([study, silent], 1)
    return study


@pytest.mark.slow
def test_a_run_that_is_told_resumes_bitwise(base: Path, uninterrupted: Path, tmp_path: Path) -> None:
    study = write_study(base / "stopped")
    assert end_at(study, 6, signal.SIGTERM) == 130
    assert info(study)["state"] == "interrupted"
    done = train(study)
    assert done.returncode == 0, done.stderr
    expected = (run_folder(uninterrupted) / "validation.jsonl").read_bytes()
    assert (run_folder(study) / "validation.jsonl").read_bytes() == expected
    ours, theirs = (final_weights(each, tmp_path, STEPS) for each in (study, uninterrupted))
    assert_same_weights(ours, theirs)
    averages: dict[str, torch.Tensor] = ours["ema"]  # type: ignore[assignment]
    assert ours["size_embed.second.weight"].any() and averages["size_embed.second.weight"].any()  # type: ignore[attr-defined]
    assert runs.load(study, "train")["loss"].equals(runs.load(uninterrupted, "train")["loss"])


@pytest.mark.slow
def test_what_is_told_changes_the_losses_once_it_is_learnt(uninterrupted: Path, silent: Path) -> None:
    ours, theirs = (runs.load(each, "train")["loss"] for each in (uninterrupted, silent))
    changed = (ours != theirs).to_list()
    # The projection moves in the first step, the last modulation in the second, and the embedder in the third.
    assert changed[:3] == [False] * 3 and all(changed[3:])


@pytest.mark.slow
def test_two_processes_in_any_layout_have_the_losses_of_one(base: Path, uninterrupted: Path) -> None:
    layouts = {
        "fsdp": "micro_batch = 1",
        "tensor": "tp = 2\ncheckpointing = 'full'",
        "context": "cp = 2",
        "compiled": "tp = 2\ncheckpointing = 'full'\ncompile = true",
    }
    studies = [write_study(base / name, more=f"[parallel]\n{text}\n") for name, text in layouts.items()]
    train_each(studies, 2)
    for each in studies:
        assert_close(uninterrupted, each)
