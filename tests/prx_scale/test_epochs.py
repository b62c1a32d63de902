"""Stages in epochs on images: the steps of their store, out of one survey, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prx_scale import cli
from prx_scale.config import RunConfig
from prx_scale.data.encoding.fromrun import planned_images
from prx_scale.data.onthefly.opening import Part, planned_sources, schedule_of_images
from prx_scale.data.onthefly.schedule import Planner
from prx_scale.data.onthefly.survey import Survey
from prx_scale.data.onthefly.surveying import surveyed
from prx_scale.errors import InputError
from prx_scale.imagedata import IMAGES as RECORD
from prx_scale.stopping import listening
from prx_scale.study import keep_copy, load
from tests.prx_scale.training import images
from tests.prx_scale.training.images import ENCODING, IMAGES, LATENTS, STORE, TEXT, write_study

encoding = images.encoding

HEADS = ENCODING.replace('survey = "images"', 'survey = "heads"')
EPOCHS = """
[[stage]]
name = "low"
epochs = 4.5
image_size = 48
[[stage]]
name = "sft"
epochs = 3
batch = 2
"""
CHOSEN = """
[[stage]]
name = "chosen"
epochs = 2.5
batch = 2
data = [{{ path = "../{own}", filter = "../weighed" }}]
"""
VARIANTS = """
[[variant]]
name = "long"
captions.kinds = ["long"]
captions.weights = [1.0]
[[variant]]
name = "empty"
captions.kinds = ["long"]
captions.weights = [1.0]
captions.missing = "empty"
[[variant]]
name = "filtered"
data.filter = "../weighed"
data.heldout = 0.3
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PRX_SCALE_CACHE", str(folder))
    return folder


@pytest.fixture
def own(world: Path, tmp_path: Path) -> Path:
    """A folder with the encoders, and images that a test may change."""
    (tmp_path / "encoders").symlink_to(world / "encoders")
    encoding.write_data(tmp_path / "tars")
    return tmp_path


def steps_of(run: RunConfig) -> list[int]:
    return [stage.steps for stage in run.stages]


def surveys(folder: Path) -> list[Path]:
    return sorted((folder / "surveys").glob("*.npz"))


def blacken(tar: Path) -> None:
    """Make the first image of a tar none, and leave its size."""
    data = bytearray(tar.read_bytes())
    data[512:1024] = bytes(512)
    tar.write_bytes(data)


def test_steps_are_those_of_the_store_of_the_same_images(world: Path, cache: Path) -> None:
    words = ["filter", str(world / "tars"), "--out", str(world / "weighed"), "--captions", "original=txt"]
    assert cli.run([*words, "--cut", "height>=66", "--weight", "height>=q0.5:3"]) == 0
    ours, stored, texts = (
        load(write_study(world / f"epochs-{name}", data=data, encoding=table, stages=stages, more=VARIANTS)).runs
        for name, data, table, stages in (
            ("images", IMAGES, ENCODING, EPOCHS + CHOSEN.format(own="tars")),
            ("store", STORE, "", EPOCHS + CHOSEN.format(own="store")),
            ("texts", LATENTS, f"[encoding]\n{TEXT}", EPOCHS),
        )
    )
    assert [steps_of(run) for run in ours] == [steps_of(run) for run in stored]
    assert [steps_of(run) for run in texts] == [steps_of(run)[:2] for run in stored]
    assert [run.training.steps for run in ours] == [sum(steps_of(run)) for run in ours]
    base, long, empty, filtered = map(steps_of, ours)
    # Every image has an original caption, and with missing = "empty" those without a long one come back.
    assert base == empty and len({tuple(each) for each in (base, long, filtered)}) == 3
    assert len(surveys(cache)) == 1


def test_images_are_looked_up_once_and_again_where_a_file_has_changed(own: Path, cache: Path) -> None:
    study = write_study(own / "study", encoding=HEADS, stages=EPOCHS)
    (run,) = load(study).runs
    (file,) = surveys(cache)
    tar = own / "tars" / "0000.tar"
    before = tar.stat()
    blacken(tar)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(study).runs == (run,) and surveys(cache) == [file]
    looked = surveyed(run, planned_images(run, "x"), own / "runs")
    (copy,) = surveys(own / "runs")
    assert np.array_equal(Survey.load(copy).sizes, looked.sizes) and (looked.sizes > 0).all()
    assert np.array_equal(Survey.load(file).kinds, looked.kinds)
    tar.touch()
    load(study)
    (new,) = set(surveys(cache)) - {file}
    assert (Survey.load(new).sizes == 0).all(axis=1).sum() == 1


def test_other_images_in_shards_of_the_same_names_are_counted_for_themselves(own: Path) -> None:
    (run,) = load(write_study(own / "study", encoding=HEADS, stages=EPOCHS)).runs
    encoding.write_data(own / "small" / "tars")
    for number in range(3):
        blacken(own / "small" / "tars" / f"000{number}.tar")
    (own / "small" / "encoders").symlink_to(own / "encoders")
    (other,) = load(write_study(own / "small" / "study", encoding=HEADS, stages=EPOCHS)).runs
    assert other.data.content == run.data.content and steps_of(other) < steps_of(run)


def test_a_stage_on_such_images_trains_on_them(own: Path) -> None:
    encoding.write_data(own / "curated")
    for number in range(3):
        blacken(own / "curated" / f"000{number}.tar")
    stages = (
        "[[stage]]\nname = 'all'\nsteps = 4\n[[stage]]\nname = 'sft'\nsteps = 3\ndata = [{ path = '../curated' }]\n"
    )
    (run,) = load(write_study(own / "study", encoding=HEADS, stages=stages)).runs
    assert run.stages[1].sources[0].content == run.data.content
    run = replace(run, validation=replace(run.validation, images=3))
    found = planned_sources(run)
    assert [Path(each.plan.draft.data.spec).name for each in found] == ["tars", "curated"]
    looked = [surveyed(run, each, own / "runs") for each in found]
    assert len(surveys(own / "runs")) == 2
    each = run.training.batch // (run.parallel.micro_batch or run.training.batch)
    planner = Planner(schedule_of_images(run, found, looked, Part()))
    assert [set(planner.wanted(item).materials) for item in range(7 * each)] == [{0}] * 4 * each + [{1}] * 3 * each
    damaged = np.flatnonzero((looked[1].sizes == 0).all(axis=1))
    assert len(damaged) == 3 and not any(
        np.isin(planner.wanted(item).numbers, damaged).any() for item in range(4 * each, 7 * each)
    )


def test_a_study_folder_is_read_where_the_images_are_not(own: Path, cache: Path) -> None:
    study = load(write_study(own / "study", stages=EPOCHS + CHOSEN.format(own="tars").split("data =")[0]), own / "runs")
    keep_copy(study)
    (own / "tars").rename(own / "gone")
    (own / "encoders").unlink()
    surveys(cache)[0].unlink()
    assert load(own / "runs").runs == study.runs
    record = json.loads((own / "runs" / RECORD).read_text())
    (own / "runs" / RECORD).write_text(json.dumps({asked: without_epochs(each) for asked, each in record.items()}))
    with pytest.raises(InputError, match=r"study.toml: \[\[stage\]\] 'low' epochs: the samples cannot be counted: its"):
        load(own / "runs")


def without_epochs(found: Mapping[str, object]) -> dict[str, object]:
    """As studies without such stages were kept."""
    assert found["epochs"]
    return {key: value for key, value in found.items() if key != "epochs"}


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_time_alone(
    own: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(own / "study", encoding=HEADS, stages=EPOCHS)
    (run,) = load(study).runs
    (file,) = surveys(cache)
    file.write_bytes(file.read_bytes()[:200])
    assert load(study).runs == (run,) and len(Survey.load(file).sizes) == 26
    monkeypatch.setenv("PRX_SCALE_CACHE", "/dev/null/none")
    assert load(study).runs == (run,)


def test_a_signal_ends_reading_and_leaves_no_half_of_a_survey(own: Path, cache: Path) -> None:
    study = write_study(own / "study", encoding=HEADS, stages=EPOCHS)
    with listening() as request:
        request.note(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            load(study)
    assert [each.suffix for each in (cache / "surveys").iterdir()] == [".lock"]
    assert len(load(study).runs) == len(surveys(cache)) == 1


def test_what_is_less_than_a_batch_or_cannot_be_reached_is_refused(own: Path) -> None:
    few = EPOCHS.replace("epochs = 3", "epochs = 0.05")
    with pytest.raises(InputError, match=r"\[\[stage\]\] 'sft' epochs: 0.05 of \d+ samples are less than a batch of 2"):
        load(write_study(own / "study", encoding=HEADS, stages=few))
    gone = EPOCHS + CHOSEN.format(own="gone")
    with pytest.raises(InputError, match=r"\[\[stage\]\] 'chosen' data path: .*gone"):
        load(write_study(own / "study", encoding=HEADS, stages=gone))


def test_what_is_wrong_whatever_is_counted_is_refused_before_anything_is_looked_up(own: Path, cache: Path) -> None:
    odd = EPOCHS.replace("batch = 2", "batch = 3")
    with pytest.raises(InputError, match=r"\[\[stage\]\] 'sft' batch: 3 is not a multiple of"):
        load(write_study(own / "study", encoding=HEADS, stages=odd))
    assert not (cache / "surveys").exists()


def test_a_study_without_epochs_looks_nothing_up(own: Path, cache: Path) -> None:
    load(write_study(own / "study"))
    assert not (cache / "surveys").exists()


def test_a_dry_run_and_reading_take_no_torch_and_say_how_far_they_are(own: Path) -> None:
    write_study(own / "study", stages=EPOCHS)
    code = (
        "import sys; from prx_scale import cli; "
        f"code = cli.run(['sweep', {str(own / 'study')!r}, '--dry-run']); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2)]
    assert [each.returncode for each in told] == [0, 0], told[0].stderr
    assert "tars: sizes and captions of 26 of 26 images looked up" in told[0].stderr and not told[1].stderr
    assert "4.5" in told[0].stdout and told[0].stdout == told[1].stdout
