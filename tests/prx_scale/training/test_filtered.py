"""Training on what a filter kept, each sample as often as it weighs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from prx_scale.cli import run
from prx_scale.data.filters.manifest import Manifest
from prx_scale.data.heldout import heldout_numbers, training_buckets
from prx_scale.data.stored import StoredHeldout, StoredTraining
from prx_scale.errors import InputError
from prx_scale.runs.info import State
from prx_scale.runs.rows import TrainRow, ValidationRow
from prx_scale.study import keep_copy, load
from prx_scale.training.run import train
from tests.prx_scale.training.told import IMAGES, write_store, write_study

FILTERED = '[data]\nfilter = "../filtered"\n'
CUT = ("--cut", "height>=80", "--weight", "width>=110:3")


def filter_images(images: Path, out: Path, *words: str) -> Manifest:
    assert run(["filter", str(images), "--out", str(out), "--captions", "original=txt", *words]) == 0
    return Manifest.open(out)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("filtered")
    write_store(base)
    filter_images(base / "images", base / "filtered", *CUT)
    return base


def study(base: Path, name: str, data: str = 'filter = "../filtered"', more: str = "") -> Path:
    folder = write_study(base / name, model="", more=more)
    file = folder / "study.toml"
    file.write_text(file.read_text().replace('path = "../store"', f'path = "../store"\n{data}'))
    return folder


def test_batches_have_what_was_kept_as_often_as_it_weighs(base: Path) -> None:
    (one,) = load(study(base, "batches")).runs
    manifest, dataset = Manifest.open(base / "filtered"), StoredTraining(one)
    assert 0 < manifest.kept < IMAGES and len(np.unique(manifest.weight)) == 3
    trained = training_buckets(dataset.parts[0].view.assigned, one.data.heldout) >= 0
    weights = np.where(trained, manifest.weight, 0)
    steps = 100
    seen = np.bincount(np.concatenate([dataset.batches.at(step).numbers for step in range(steps)]), minlength=IMAGES)
    epochs = steps * one.training.batch / weights.sum()
    # What waits for a batch of its bucket is late.
    assert np.abs(seen - weights * epochs).max() <= 3
    assert not seen[~manifest.keep].any() and not seen[~trained].any()


def test_validation_is_the_same_with_any_filter_and_with_none(base: Path) -> None:
    (filtered,), (plain,) = load(study(base, "validated")).runs, load(study(base, "plain", data="")).runs
    assert np.array_equal(StoredHeldout(filtered).numbers, StoredHeldout(plain).numbers)
    removed = ~Manifest.open(base / "filtered").keep
    assert removed[heldout_numbers(StoredTraining(plain).parts[0].view.assigned, 0.2)].any()
    places = np.arange(4)
    assert filtered.id != plain.id
    batches = [StoredTraining(each).batch(places) for each in (filtered, plain)]
    assert not np.array_equal(batches[0].image, batches[1].image)


def test_a_filter_that_keeps_all_with_equal_weights_changes_no_batch(base: Path, tmp_path: Path) -> None:
    filter_images(base / "images", base / "all", "--cut", "height>=1")
    (all_kept,) = load(study(base, "kept", data='filter = "../all"')).runs
    (plain,) = load(study(base, "unfiltered", data="")).runs
    for step in range(20):
        places = np.arange(4 * step, 4 * step + 4)
        ours, theirs = StoredTraining(all_kept).batch(places), StoredTraining(plain).batch(places)
        assert np.array_equal(ours.image, theirs.image) and torch.equal(ours.context, theirs.context)


def test_the_id_says_what_is_kept_not_where_that_lies(base: Path) -> None:
    shutil.copytree(base / "filtered", base / "copy")
    filter_images(base / "images", base / "other", "--cut", "height>=90", "--weight", "width>=110:3")
    ids = {
        name: load(study(base, f"id-{name}", data=f'filter = "../{name}"')).runs[0].id
        for name in ("filtered", "copy", "other")
    }
    assert ids["filtered"] == ids["copy"] != ids["other"]


def test_a_stage_has_a_filter_and_epochs_of_its_own(base: Path) -> None:
    stages = (
        '[[stage]]\nname = "all"\nsteps = 3\n'
        '[[stage]]\nname = "few"\nepochs = 2\ndata = [{ path = "../store", filter = "../filtered" }]\n'
    )
    folder = write_study(base / "staged", model="", more=stages)
    file = folder / "study.toml"
    file.write_text(file.read_text().replace("steps = 12\n", ""))
    (one,) = load(folder).runs
    manifest = Manifest.open(base / "filtered")
    part = StoredTraining(one, 2, one.stages[1].sources).parts[0]
    assert np.array_equal(part.assigned >= 0, (manifest.weight > 0) & (training_buckets(part.view.assigned, 0.2) >= 0))
    assert one.stages[1].steps == 2 * round(float(manifest.weight[part.assigned >= 0].sum())) // 4


class Stopping:
    """Asks the process to stop at a step."""

    def train_row(self, row: TrainRow) -> None:
        if row.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    def validation_row(self, row: ValidationRow) -> None:
        pass


@pytest.mark.slow
def test_a_filtered_run_trains_and_goes_on_bitwise(base: Path) -> None:
    rows: list[list[float]] = []
    for name in ("whole", "parts"):
        (one,) = load(study(base, name)).runs
        folder = base / name / "runs" / one.id
        if name == "parts":
            assert train(one, folder, Stopping()) is State.INTERRUPTED
        assert train(one, folder) is State.DONE
        rows.append([json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()])
    assert rows[0] == rows[1] and len(rows[0]) == 12


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('filter = "../filterd"', r"\[data\] filter: .*filterd: no such folder"),
        ('filter = "../filtered"\nfilter_hash = "0"', r"\[data\] filter_hash: 0, but .* leave it out to take it"),
        ('filter_hash = "0"', r"\[data\] filter_hash: says which result of a filter, but filter names no folder"),
        ('filter = "../foreign"', r"\[data\] filter: .*foreign is of other data than .*store; filter what was encoded"),
    ],
)
def test_what_cannot_be_right_is_refused(base: Path, tmp_path: Path, data: str, message: str) -> None:
    if "foreign" in data and not (base / "foreign").exists():
        (base / "images2").mkdir()
        shutil.copy(base / "images" / "0.tar", base / "images2" / "1.tar")
        filter_images(base / "images2", base / "foreign", "--cut", "height>=80")
    folder = study(base, f"refused-{tmp_path.name}", data=data)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_result_that_changes_later_is_refused_and_one_that_is_gone_needs_no_reading(base: Path) -> None:
    shutil.copytree(base / "filtered", base / "changing")
    loaded = load(study(base, "later", data='filter = "../changing"'))
    keep_copy(loaded)
    shutil.rmtree(base / "changing")
    (one,) = load(loaded.folder).runs
    assert one.id == loaded.runs[0].id
    filter_images(base / "images", base / "changing", "--cut", "height>=81")
    with pytest.raises(InputError, match=r"keeps or weights other samples .* remove filters.json"):
        train(one, loaded.folder / "runs" / one.id)


def test_a_filter_that_leaves_nothing_to_train_on_is_named(base: Path) -> None:
    filter_images(base / "images", base / "none", "--cut", "height>=100000")
    (one,) = load(study(base, "nothing", data='filter = "../none"')).runs
    with pytest.raises(InputError, match=r"has no sample of 64 pixels .* original, that .*none keeps and that is not"):
        StoredTraining(one)
