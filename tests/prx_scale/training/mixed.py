"""A small study that goes through three stores: synthetic, photos, and a curated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prx_scale.data.store.recipe import Captions, DataName, Recipe
from tests.prx_scale.data.stores import recipe
from tests.prx_scale.training.stored import STUDY, make_two_sizes

FIRST = {"photos": 0, "synthetic": 1000, "curated": 2000}
"""What is added to a sample's number for its content."""
SAMPLES = {"photos": 70, "synthetic": 50, "curated": 23}
KINDS = {"photos": ("original", "long"), "synthetic": ("synthetic",), "curated": ("long", "original")}
STAGES = """
[[stage]]
name = "synthetic"
steps = 4
image_size = 16
data = [{ path = "../synthetic" }]
[[stage]]
name = "mixed"
steps = 8
data = [{ path = "../synthetic", weight = 1 }, { path = "../photos", weight = 3 }]
replay = "synthetic"
replay_share = 0.5
[[stage]]
name = "real"
steps = 5
replay = "mixed"
replay_share = 0.5
[[stage]]
name = "curated"
epochs = 1.5
batch = 4
lr_factor = 0.1
warmup = 2
data = [{ path = "../curated" }]
"""


def recipe_of(name: str) -> Recipe:
    """The recipe of a store, at 32 pixels."""
    return replace(
        recipe(SAMPLES[name]),
        data=DataName(spec=name, fingerprint=name[0] * 16, samples=SAMPLES[name]),
        captions=Captions(kinds=KINDS[name]),
    )


def write_stores(folder: Path) -> None:
    """The three stores, with latents of 16 and 32 pixels."""
    for name in FIRST:
        make_two_sizes(folder / name, recipe_of(name), FIRST[name])


def write_mixed_study(
    folder: Path, stages: str = STAGES, more: str = "", kinds: Sequence[str] = ("original", "long", "synthetic")
) -> Path:
    """A study of stages on stores that are made beside its folder where they are not there.

    Returns:
        The study's folder.
    """
    if not (folder.parent / "photos").exists():
        write_stores(folder.parent)
    text = (
        STUDY.replace("steps = 20\n", "").replace("depth = 1", "depth = 1\npatch = 1").replace("../store", "../photos")
    )
    old = 'kinds = ["original", "long"]\nweights = [1.0, 2.0]'
    assert old in text
    text = text.replace(old, f"kinds = {list(kinds)}\nweights = {[1.0, 2.0, 1.0][: len(kinds)]}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text.format(data="", grid=6) + stages + more)
    return folder
