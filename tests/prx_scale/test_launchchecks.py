"""What a launch refuses about stores before any job starts."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale.cli import run
from prx_scale.data.store import layout
from prx_scale.errors import InputError
from prx_scale.launchchecks import check_launch
from prx_scale.stores import find_store
from prx_scale.study import load
from tests.prx_scale.data.stores import make, recipe
from tests.prx_scale.training.mixed import STAGES, write_mixed_study, write_stores


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_stores(tmp_path)
    return tmp_path


def check(folder: Path, stages: str = STAGES, old: str = "", new: str = "") -> None:
    file = write_mixed_study(folder / "study", stages) / "study.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    check_launch(load(file).runs, str(file))


def test_whole_stores_pass_and_so_do_those_that_are_elsewhere(folder: Path) -> None:
    check(folder)
    loaded = load(folder / "study")
    shutil.rmtree(folder / "synthetic")
    check_launch(loaded.runs, "study.toml")


def test_a_missing_file_of_any_store_is_named(folder: Path) -> None:
    layout.shard_file(folder / "synthetic", 0, "safetensors").unlink()
    with pytest.raises(InputError, match=r"study.toml: d1-.*: .*synthetic.*000000.safetensors: cannot be read"):
        check(folder)


def test_too_few_held_out_images_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"\[validation\] images: 500, but \[data\] heldout = .* of 32 pixels"):
        check(folder, old="images = 7", new="images = 500")


def test_a_sweep_ends_with_2_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout.shard_file(folder / "photos", 0, "parquet").unlink()
    study = write_mixed_study(folder / "study")
    for more in ((), ("--dry-run",)):
        assert run(["sweep", str(study), *more]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert re.search(
            r"study.toml: d1-.*photos.*000000.parquet: cannot be read.*prx-scale encode with --verify", told
        )
    assert [each.name for each in study.iterdir()] == ["study.toml"]


def test_what_is_no_store_to_train_on_says_what_would_be(tmp_path: Path) -> None:
    make(tmp_path / "store", replace(recipe(20), text=()))
    with pytest.raises(InputError, match=r"store: has no text states; encode with --text-encoders, or its captions"):
        find_store(tmp_path / "store")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r'photos: no store in it .*images are trained on with dataset = "images"'):
        find_store(tmp_path / "photos")
