"""A small study on a store of three aspect ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prx_scale.data.buckets import Bucket
from prx_scale.data.store.finishing import begin, finish
from prx_scale.data.store.packing import pack
from prx_scale.data.store.recipe import Recipe, Resolution
from prx_scale.models.encoders.image.base import statistics_of
from prx_scale.models.encoders.image.moments import Moments
from tests.prx_scale.data.stores import BUCKETS, bucket_of, build, make, moments, recipe

STUDY = """
[study]
name = "stored"
[model]
depth = 1
position_grid = {grid}
[data]
dataset = "store"
path = "../store"
image_size = 32
heldout = 0.2
{data}
[captions]
kinds = ["original", "long"]
weights = [1.0, 2.0]
[training]
steps = 20
batch = 8
lr = 1e-3
warmup = 4
[validation]
every = 4
images = 7
[checkpoint]
every = 6
[logging]
every = 1
[parallel]
micro_batch = 2
"""
SAMPLES = 70


def write_study(folder: Path, *, data: str = "", more: str = "", grid: int = 3) -> Path:
    """Write a study.toml into a folder of its own, beside a store that is made where there is none.

    Returns:
        The study's folder.
    """
    if not (folder.parent / "store").exists():
        make(folder.parent / "store", recipe(SAMPLES))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY.format(data=data, grid=grid) + more)
    return folder


STAGES = """
[[stage]]
name = "low"
steps = 8
image_size = 16
[[stage]]
name = "high"
steps = 12
batch = 4
lr_factor = 0.5
warmup = 3
replay = "low"
replay_share = 0.4
"""


def write_staged_study(folder: Path, more: str = "") -> Path:
    """A study that goes from 16 to 32 pixels, and back for some batches, on a store of both.

    Returns:
        The study's folder.
    """
    if not (folder.parent / "store").exists():
        make_two_sizes(folder.parent / "store")
    text = STUDY.replace("steps = 20\n", "").replace("depth = 1", "depth = 1\npatch = 1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text.format(data="", grid=6) + STAGES + more)
    return folder


def make_two_sizes(folder: Path, wanted: Recipe | None = None, first: int = 0) -> Recipe:
    """Write a store that also has latents of 16 pixels: every other value of those of 32."""
    halves = tuple(Bucket(height=each.height // 2, width=each.width // 2) for each in BUCKETS)
    both = wanted or recipe(SAMPLES)
    both = replace(both, resolutions=(Resolution(image_size=16, buckets=halves), *both.resolutions))
    begin(folder, both)
    for shard in range(both.shards):
        builder = build(both, shard, first)
        for number in range(*both.range(shard)):
            if (bucket := bucket_of(number)) >= 0:
                values = moments(first + number, bucket)[None, :, ::2, ::2]
                mean, std = values.split(4, dim=1)
                packed = pack(values, both.latents, 2, "latents")
                statistics = statistics_of(Moments(mean=mean, std=std))
                builder.add_latents(16, bucket, [number], packed, [(64, 64, 0, 0, 16, 16)], statistics)
        builder.write(folder)
    assert finish(folder, both)
    return both
