"""What a study on images leads to: content and sizes without torch, kept beside its copy, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale.config import RunConfig
from prx_scale.encodingtable import Encoding
from prx_scale.errors import InputError
from prx_scale.imagedata import IMAGES, check_unchanged
from prx_scale.models.inputs import inputs_of
from prx_scale.study import keep_copy, load, run_from_json
from tests.prx_scale.models.autoencoder_folders import write_flux2
from tests.prx_scale.models.hub_server import serve
from tests.prx_scale.training import images
from tests.prx_scale.training.images import ENCODING, LATENTS, STORE, TEXT, write_study

encoding = images.encoding


@pytest.fixture(scope="module")
def run(world: Path) -> RunConfig:
    return load(write_study(world / "read-study")).runs[0]


def changed(run: RunConfig, world: Path, *replaced: tuple[str, str]) -> RunConfig:
    """The run of a study whose text differs."""
    study = write_study(world / "read-changed")
    text = (study / "study.toml").read_text()
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    (study / "study.toml").write_text(text)
    return load(study).runs[0]


def test_sizes_are_read_from_configurations_without_torch(run: RunConfig, world: Path) -> None:
    inputs = inputs_of(run.data)
    assert (inputs.channels, inputs.context_dim, inputs.pooled_dim) == (16, 48, 36)
    assert run.data.said("captions") == [["original", "long"]]
    assert [line[0] for line in run.data.said("buckets")] == ["48", "64"]
    code = (
        "import sys; from pathlib import Path; from prx_scale.study import load; "
        f"print(load(Path({str(world / 'read-study')!r})).runs[0].id, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [run.id, "False"]


def test_a_run_is_named_by_what_decides_batches_and_not_by_places(run: RunConfig, world: Path) -> None:
    moved = world / "elsewhere"
    moved.mkdir()
    (moved / "tars").symlink_to(world / "tars")
    (moved / "encoders").symlink_to(world / "encoders")
    assert load(write_study(moved / "study")).runs[0].id == run.id
    for place in ("processes = 3", "ahead = 5", "threads = 2", "device = 'cpu'", "max_skipped = 0.5"):
        key = "threads = 1" if place.startswith("threads") else "[encoding]"
        new = place if place.startswith("threads") else f"[encoding]\n{place}"
        assert changed(run, world, (key, new)).id == run.id, place
    (world / "encoders2").mkdir()
    encoding.with_other_weights(world / "encoders" / "vae", world / "encoders2" / "vae")
    others = (
        ("[encoding]", "[encoding]\nstretch = 0.2"),
        ("[encoding]", "[encoding]\ncleaning = 'light'"),
        ("[encoding]", "[encoding]\nprecision = 'float32'"),
        ("[encoding]", "[encoding]\ntext_dtype = 'fp8'"),
        ("[encoding]", "[encoding]\nno_captions = true"),
        ('survey = "images"', 'survey = "heads"'),
        ('["original=txt", "long=long"]', '["long=long", "original=txt"]'),
        ("bucket_step = 16", "bucket_step = 16\nmax_ratio = 1.5"),
        ("sd3=../encoders", "sd3=../encoders2"),
    )
    ids = {changed(run, world, other).id for other in others}
    assert len(ids) == len(others) and run.id not in ids


def test_tables_without_images_keep_their_identity(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("[study]\nname = 's'\n[model]\ndepth = 1\n[training]\nsteps = 100\n")
    run = load(tmp_path).runs[0]
    assert run.encoding == Encoding() and "encoding" not in run.identity and not run.on_the_fly


def test_run_json_has_all_that_training_needs(run: RunConfig) -> None:
    back = run_from_json(json.loads(json.dumps(run.to_json())), "run.json")
    assert back == run and back.id == run.id
    check_unchanged(back, "run.json")
    with pytest.raises(InputError, match=r"run\.json: .* but the run trains on other; .* remove images\.json"):
        check_unchanged(replace(back, data=replace(back.data, content="other")), "run.json")


def test_a_study_folder_is_read_where_the_images_are_not(run: RunConfig, world: Path, tmp_path: Path) -> None:
    for name in ("tars", "encoders"):
        (tmp_path / name).symlink_to(world / name)
    study = load(write_study(tmp_path / "study"), tmp_path / "runs")
    keep_copy(study)
    for name in ("tars", "encoders"):
        (tmp_path / name).unlink()
    there = load(tmp_path / "runs").runs[0]
    assert there == study.runs[0] and there.id == run.id
    (tmp_path / "runs" / IMAGES).write_text("{")
    with pytest.raises(InputError, match=r"images\.json: damaged"):
        load(tmp_path / "runs")
    (tmp_path / "runs" / IMAGES).unlink()
    with pytest.raises(InputError, match=r"\[encoding\] image_encoder: .*encoders|\[data\] path: "):
        load(tmp_path / "runs")


def test_a_variant_and_a_swept_depth_share_what_was_found(world: Path) -> None:
    more = "[[variant]]\nname = 'x'\nmodel.depth = [2, 3]\n[[variant]]\nname = 'y'\nencoding.stretch = 0.1\n"
    study = load(write_study(world / "read-variants", more=more))
    assert [len({run.data.content for run in study.runs}), len(study.images), len(study.runs)] == [2, 2, 4]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["clip-l=../encoders", "clip-g=../encoders", "t5=../encoders"]', "[]", "text_encoders: missing"),
        ('"t5=../encoders"', '"t6=../encoders"', r"\[encoding\] text_encoders: 't6' is not a text encoder; .*t5"),
        ('"t5=../encoders"', '"t5=../nowhere"', r"\[encoding\] text_encoders: .*nowhere"),
        ("sd3=../encoders", "sd3=../tars", r"\[encoding\] image_encoder: .*tars: no 'sd3' in it"),
        ("sd3=../encoders", "flux2=../encoders", r"\[encoding\]: .*_class_name: .*AutoencoderKLFlux2"),
        ('"t5=../encoders"', '"t5gemma=../encoders/t5gemma", "shapes"', r"\[encoding\] text_encoders: .*'shapes|drawn"),
        ("long=long", "lang=long", r"\[captions\] kinds: .*'long'.*lang.*\[encoding\] captions .* long=FIELD"),
        ("long=long", "long=lnog", r"\[data\] path: .*'lnog' \(for 'long'\)"),
        ('"original=txt"', '"txt"', r"\[encoding\] captions: 'txt' is not KIND=FIELD"),
        ("image_size = 48", "image_size = 50", r"\[encoding\]: buckets: image_size 50 is not a multiple of the 16"),
        ("bucket_step = 16", "bucket_step = 24", r"\[encoding\]: buckets step: 24 is not a multiple"),
        ("position_grid = 6", "position_grid = 4", r"\[model\] position_grid: .*the data's buckets at 64 .* 5"),
        ('path = "../tars"', 'path = "../nothing"', r"\[data\] path: "),
        ('path = "../tars"', "", r"\[data\] path: missing"),
        ("heldout = 0.2", "heldout = 0.2\nlong_captions = 0.2", r"\[data\] long_captions: is for"),
        ("heldout = 0.2", "heldout = 0.2\ncontent = 'x'", r"\[data\] content: x, but"),
        ('survey = "images"', 'survey = "images"\nclasses = "names.txt"', r"\[encoding\] classes: .*class_templates"),
        ('survey = "images"', 'survey = "images"\nfilter = "../none"', r"\[encoding\] filter: .*none"),
        ("weights = [1.0, 2.0]", "weights = [1.0, 2.0]\ntemplates = ['{class}']", r"\[captions\] templates: .*class_t"),
        (
            "replay_share = 0.4",
            "replay_share = 0.4\ndata = [{path = '../no'}]",
            r"\[\[stage\]\] 'high' data path: .*/no",
        ),
        (
            "replay_share = 0.4",
            "replay_share = 0.4\ndata = [{path = '../tars', content = 'x'}]",
            r"'high' data content: x",
        ),
        (
            "replay_share = 0.4",
            "replay_share = 0.4\ndata = [{path = '../tars'}, {path = '../tars', weight = 2}]",
            r"'high' data path: .*tars and .*tars are the same; .* once, with weight 3",
        ),
        ('dataset = "images"\npath = "../tars"', "", r'\[encoding\] image_encoder: nothing is encoded .*"shapes"'),
        ("precision", "precision", "processes: 0 is too small"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_study_is_loaded(
    run: RunConfig, world: Path, old: str, new: str, message: str
) -> None:
    pair = (old, new) if old != new else ("[encoding]", "[encoding]\nprocesses = 0")
    with pytest.raises(InputError, match=message) as raised:
        changed(run, world, pair)
    assert "study.toml" in str(raised.value)


def test_autoencoders_that_have_to_be_measured_are_refused(run: RunConfig, world: Path) -> None:
    shutil.copytree(world / "encoders" / "vae", world / "unscaled")
    config = json.loads((world / "unscaled" / "config.json").read_text())
    del config["scaling_factor"]
    (world / "unscaled" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"\[encoding\] image_encoder: 'repa-e' .* prx-scale encode"):
        changed(run, world, ("sd3=../encoders", "repa-e=../unscaled"))


def test_flux2s_statistics_are_read_without_torch_here_and_on_the_hub(world: Path, tmp_path: Path) -> None:
    write_flux2(tmp_path / "hub" / "owner" / "vae", channels=32)
    for name, source in (("here", tmp_path / "hub" / "owner" / "vae"), ("hub", "owner/vae")):
        table = ENCODING.replace("sd3=../encoders", f"flux2={source}").replace("[encoding]", "[encoding]\npatch = 1")
        study = write_study(world / f"flux2-{name}", encoding=table)
        text = (study / "study.toml").read_text()
        (study / "study.toml").write_text(text.replace("depth = 1", "depth = 1\npatch = 1"))
    code = (
        "import sys; from pathlib import Path; from prx_scale.study import load; "
        f"print(*(load(Path({str(world)!r}) / f'flux2-{{name}}').runs[0].id for name in ('here', 'hub')), "
        "'torch' in sys.modules)"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    with serve(tmp_path / "hub") as (endpoint, _):
        environment = {**kept, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here, hub, torch = done.stdout.split()
    assert here == hub and torch == "False"


def test_beside_a_store_only_captions_are_encoded(tmp_path: Path) -> None:
    keys = f"[encoding]\n{TEXT}"
    with pytest.raises(InputError, match=r"\[data\] path: .*no store in it"):
        load(write_study(tmp_path / "study", data=LATENTS, encoding=keys))
    with pytest.raises(InputError, match=r"\[encoding\] stretch: a store has its latents already"):
        load(write_study(tmp_path / "study", data=LATENTS, encoding=f"{keys}stretch = 0.1\n"))
    with pytest.raises(InputError, match=r"\[encoding\] processes: nothing is encoded .* text_encoders"):
        load(write_study(tmp_path / "study", data=STORE, encoding="[encoding]\nprocesses = 2\n"))


def test_the_table_is_the_options_of_encode() -> None:
    from prx_scale.commands.encode import BucketOptions, Encode

    assert re.findall(r"(\w+) =", ENCODING)
    options = {**Encode.__dataclass_fields__, **BucketOptions.__dataclass_fields__}
    own = {"ahead", "survey", "threads", "device", "processes", "max_skipped"}
    for name, field in Encoding.__dataclass_fields__.items():
        if name in own:
            continue
        assert name in options, name
        assert (options[name].default or "") == (field.default or "") or options[name].default in (None, False), name
