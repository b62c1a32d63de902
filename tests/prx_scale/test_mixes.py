"""Stages on stores of their own, as a study file says them: found, compared, counted, named and refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prx_scale.commands.stages_output import stage_rows
from prx_scale.config import RunConfig
from prx_scale.data.buckets import Bucket
from prx_scale.data.heldout import heldout_numbers
from prx_scale.data.store import Store
from prx_scale.data.store.recipe import Captions, Encoder, Recipe, Resolution
from prx_scale.errors import InputError
from prx_scale.stores import STORES
from prx_scale.study import keep_copy, load, run_from_json
from tests.prx_scale.data.stores import BUCKETS, CLIP, IMAGE, make
from tests.prx_scale.training.mixed import STAGES, recipe_of, write_mixed_study, write_stores
from tests.prx_scale.training.stored import make_two_sizes

MIX = 'data = [{ path = "../synthetic", weight = 1 }, { path = "../photos", weight = 3 }]'


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    write_stores(folder)
    return folder


@pytest.fixture
def folder(stores: Path, tmp_path: Path) -> Path:
    """A folder with the three stores, to put studies and more stores in."""
    for each in stores.iterdir():
        (tmp_path / each.name).symlink_to(each)
    return tmp_path


def runs_of(folder: Path, stages: str = STAGES, more: str = "") -> tuple[RunConfig, ...]:
    kinds = ("original", "long", *(("synthetic",) if 'name = "synthetic"' in stages else ()))
    return load(write_mixed_study(folder / "study", stages, more, kinds)).runs


def test_sources_are_found_and_kept_in_run_json(folder: Path) -> None:
    (run,) = runs_of(folder)
    mixed = run.stages[1].data
    assert [(Path(each.path).name, each.weight) for each in mixed] == [("synthetic", 1), ("photos", 3)]
    assert all(len(each.content) == 64 and each.sizes for each in mixed)
    assert mixed[1].content == run.data.content and mixed[1].sizes == run.data.sizes
    back = run_from_json(json.loads(json.dumps(run.to_json())), "run.json")
    assert back == run and back.id == run.id and back.stages[3].epochs == 1.5


def test_the_id_is_named_by_content_and_weight_and_not_by_place(folder: Path, stores: Path) -> None:
    (run,) = runs_of(folder)
    (folder / "elsewhere").symlink_to(stores / "synthetic")
    assert runs_of(folder, STAGES.replace("../synthetic", "../elsewhere"))[0].id == run.id
    assert runs_of(folder, STAGES.replace("../synthetic", str(stores / "synthetic")))[0].id == run.id
    content = run.stages[0].data[0].content
    pinned = STAGES.replace(
        'data = [{ path = "../synthetic" }]', f'data = [{{ path = "../synthetic", content = "{content}" }}]'
    )
    assert pinned != STAGES and runs_of(folder, pinned)[0].id == run.id
    unused = STAGES.replace("weight = 3 }", 'weight = 3 }, { path = "../nowhere", weight = 0 }')
    assert runs_of(folder, unused)[0].id == run.id
    assert runs_of(folder, STAGES.replace("weight = 3", "weight = 4"))[0].id != run.id
    make_two_sizes(folder / "other", replace(recipe_of("synthetic"), states="fp8"), 1000)
    (folder / "synthetic").unlink()
    (folder / "other").rename(folder / "synthetic")
    assert runs_of(folder)[0].id != run.id


def samples_of_epoch(store: Path, kinds: set[str], heldout: float) -> int:
    """Counted from the files of the store, one by one."""
    opened = Store.open(store)
    assigned = np.load(store / "buckets-32.npy")
    away = set(heldout_numbers(assigned, heldout).tolist())
    bits = np.load(store / "kinds.npy")
    places = [place for place, kind in enumerate(opened.kinds) if kind in kinds]
    return sum(
        bucket >= 0 and number not in away and any(bits[number] >> place & 1 for place in places)
        for number, bucket in enumerate(assigned.tolist())
    )


def epochs_of(number: float, keys: str = "") -> str:
    return f"[[stage]]\nname = 'a'\nepochs = {number}\n{keys}\n"


def test_epochs_are_steps_of_what_training_takes(folder: Path, stores: Path) -> None:
    curated, photos = (samples_of_epoch(stores / name, {"original", "long"}, 0.2) for name in ("curated", "photos"))
    (run,) = runs_of(folder)
    assert run.stages[3].steps == int(1.5 * curated) // 4
    assert run.training.steps == 4 + 8 + 5 + run.stages[3].steps
    assert runs_of(folder, epochs_of(3))[0].training.steps == 3 * photos // 8
    (fewer,) = runs_of(folder, epochs_of(3), "[[variant]]\nname = 'x'\ndata.heldout = 0.5\n")[1:]
    assert fewer.stages[0].steps == 3 * samples_of_epoch(stores / "photos", {"original", "long"}, 0.5) // 8
    long = "[[variant]]\nname = 'x'\ncaptions.kinds = ['long']\ncaptions.weights = [1.0]\n"
    (shorter,) = runs_of(folder, epochs_of(3), long)[1:]
    assert shorter.stages[0].steps == 3 * samples_of_epoch(stores / "photos", {"long"}, 0.2) // 8
    (all_of_them,) = runs_of(folder, epochs_of(3), long + "captions.missing = 'empty'\n")[1:]
    assert all_of_them.stages[0].steps == 3 * photos // 8 > shorter.stages[0].steps


def test_steps_in_the_place_of_epochs_are_the_same_run(folder: Path) -> None:
    (run,) = runs_of(folder)
    assert runs_of(folder, STAGES.replace("epochs = 1.5", f"steps = {run.stages[3].steps}"))[0].id == run.id


def test_a_study_folder_is_read_where_the_stores_are_not(tmp_path: Path) -> None:
    study = load(write_mixed_study(tmp_path / "here" / "study"), tmp_path / "runs")
    keep_copy(study)
    (tmp_path / "here").rename(tmp_path / "gone")
    assert load(tmp_path / "runs").runs[0].id == study.runs[0].id
    copy = tmp_path / "runs" / "study.toml"
    copy.write_text(copy.read_text().replace("heldout = 0.2", "heldout = 0.3"))
    with pytest.raises(InputError, match=r"'curated' epochs: the samples cannot be counted: .*curated: no store in it"):
        load(tmp_path / "runs")
    (tmp_path / "gone" / "photos").rename(tmp_path / "curated")
    with pytest.raises(InputError, match=r"cannot be counted: its store: .*curated holds .*, but the run trains on"):
        load(tmp_path / "runs")


def test_an_older_record_of_stores_says_to_be_removed(folder: Path) -> None:
    keep_copy(load(write_mixed_study(folder / "study"), folder / "study"))
    record = folder / "study" / STORES
    kept = json.loads(record.read_text())
    sizes = kept["../photos"]["sizes"]
    kept["../photos"]["sizes"] = [line for line in sizes if not line.startswith("made ")]
    record.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"'synthetic' data path: .*stores.json beside the study .* remove that file"):
        load(folder / "study")


def test_a_sweep_that_changes_the_length_of_epochs_is_refused(folder: Path) -> None:
    swept = "[[variant]]\nname = 'x'\ntraining.batch = [16, 32]\n"
    with pytest.raises(
        InputError, match=r"'x' \[\[stage\]\] 'a' epochs: 3 are .* as \[training\] batch is swept; .* and batch"
    ):
        runs_of(folder, epochs_of(3), swept)
    assert {run.training.steps for run in runs_of(folder, epochs_of(3, "batch = 8"), swept)} == {16}
    with pytest.raises(InputError, match=r"as \[data\] heldout is swept; give the stage steps of its own"):
        runs_of(folder, epochs_of(3), "[[variant]]\nname = 'x'\ndata.heldout = [0.1, 0.4]\n")


OTHER_BUCKETS = (Resolution(image_size=32, buckets=(*BUCKETS[:2], Bucket(height=32, width=64))),)


def with_identity(encoder: Encoder, **changes: Mapping[str, str | int]) -> Encoder:
    return replace(encoder, identity=replace(encoder.identity, **changes))  # type: ignore[arg-type]


CHANGES: dict[str, tuple[Callable[[Recipe], Recipe], str]] = {
    "vae": (
        lambda it: replace(it, image=with_identity(it.image, files={"model/a": "2"})),
        r"has the encoder \(name, hash of weights and settings\) kl-4 \w+, that of \[data\] path kl-4 \w+; one model",
    ),
    "text encoder": (
        lambda it: replace(it, text=(with_identity(it.text[0], settings={"length": 9}), it.text[1])),
        r"has the encoder .* clip-l \w+, that of \[data\] path clip-l \w+; .* encode one of them again",
    ),
    "fewer encoders": (
        lambda it: replace(it, text=it.text[:1]),
        r"has the encoder .* none, that of \[data\] path gemma",
    ),
    "places": (
        lambda it: replace(it, text=(replace(it.text[0], spec=replace(CLIP, width=7)), it.text[1])),
        r"has the text states .* clip-l 0 77 0 7 0 5, that of \[data\] path clip-l 0 77 0 8 0 5",
    ),
    "image size": (lambda it: it, "has no latents of 16 pixels, only of 32"),
    "buckets": (lambda it: replace(it, resolutions=OTHER_BUCKETS), "has the buckets 48x32, 32x32, 32x64 at 32 pixels"),
    "captions": (
        lambda it: replace(it, captions=Captions(kinds=("short",))),
        r"has captions of short, none of \[captions\] kinds original, long; add one of its kinds there",
    ),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_stores_that_do_not_feed_the_same_are_refused(folder: Path, name: str) -> None:
    change, message = CHANGES[name]
    make(folder / "other", change(recipe_of("curated")), 1000)
    size = "image_size = 16\n" if name == "image size" else ""
    stage = f"[[stage]]\nname = 'late'\nsteps = 3\n{size}" + MIX.replace("synthetic", "other")
    with pytest.raises(InputError, match=r"study.toml: \[\[stage\]\] 'late' data path: .*other " + message):
        runs_of(folder, stage)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('[{ path = "../photos" }, { path = "../photos", weight = 2 }]', "are the same; .* once, with weight 3"),
        ('[{ path = "../photo" }]', r"'late' data path: .*photo: no store in it .*did you mean 'photos'\?"),
        ('[{ path = "../photos", content = "abc" }]', "'late' data content: abc, but .*photos holds"),
        ('[{ path = "../photos", weight = 0 }]', "'late' data: every weight is 0"),
    ],
)
def test_sources_that_cannot_be_right_are_refused(folder: Path, data: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs_of(folder, f"[[stage]]\nname = 'late'\nsteps = 3\ndata = {data}\n")


def test_the_same_encoder_may_have_another_name(folder: Path) -> None:
    wanted = recipe_of("curated")
    image = replace(wanted.image, spec=replace(IMAGE, name="another"))
    make(folder / "other", replace(wanted, image=image), 1000)
    (run,) = runs_of(folder, f"[[stage]]\nname = 'late'\nsteps = 5\n{MIX.replace('synthetic', 'other')}\n")
    assert len(run.stages[0].data) == 2


def test_a_kind_of_captions_that_no_store_has_is_refused(folder: Path) -> None:
    more = "[[variant]]\nname = 'x'\ncaptions.kinds = ['original', 'lnog', 'synthetic']\n"
    with pytest.raises(
        InputError, match="kinds: no store of the run has captions of the kind 'lnog'; did you mean 'long'"
    ):
        runs_of(folder, more=more)


def test_less_than_a_batch_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"'a' epochs: 0\.1 of 14 samples are less than a batch of 8"):
        runs_of(folder, epochs_of(0.1, 'data = [{ path = "../curated" }]'))


def test_a_dry_run_shows_the_stages(folder: Path) -> None:
    (run,) = runs_of(folder)
    assert stage_rows(run)[1] == ("mixed", "8", "", "32", "8", "25% synthetic, 75% photos", "50% synthetic")
    assert stage_rows(run)[3] == ("curated", "5", "1.5", "32", "4", "curated", "")
    command = [sys.executable, "-m", "prx_scale", "sweep", str(folder / "study"), "--dry-run"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"stages of {run.id}\n.*\nsynthetic +4 +16 +8 +synthetic *\nmixed +8 ", told)


def test_reading_such_a_study_takes_no_torch(folder: Path) -> None:
    write_mixed_study(folder / "study")
    code = "import sys; from pathlib import Path; from prx_scale.study import load; load(Path(sys.argv[1])); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(folder / "study")], check=True)
