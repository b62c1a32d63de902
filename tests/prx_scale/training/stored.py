"""A small study on a store of three aspect ratios."""

from __future__ import annotations

from pathlib import Path

from tests.prx_scale.data.stores import make, recipe

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
