"""Nodes and time limits that a study file leaves out, as the planner has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from prx_scale import study
from prx_scale.allocation import Sized
from prx_scale.commands.sizing import LONGEST_MINUTES, START_MINUTES, sizes
from prx_scale.errors import InputError

STUDY = """
[study]
name = "sized"
[model]
depth = [2, 3]
[data]
dataset = "random"
image_size = 256
[training]
steps = {steps}
batch = 64
precision = "{precision}"
[slurm]
gpus_per_node = 8
{slurm}
"""


def sized(folder: Path, slurm: str, *, steps: int = 1000, precision: str = "bfloat16") -> dict[int, Sized]:
    """What the planner says, by depth."""
    (folder / "study.toml").write_text(STUDY.format(slurm=slurm, steps=steps, precision=precision))
    loaded = study.load(folder)
    found = sizes(loaded.runs, loaded.slurm, None, lambda: None)
    return {run.model.depth: found[run.id] for run in loaded.runs if run.id in found}


def test_what_fits_one_node_gets_one_and_a_day_at_most(tmp_path: Path) -> None:
    short = sized(tmp_path, 'gpu = "h100"')
    assert {each.nodes for each in short.values()} == {1} and list(short) == [2, 3]
    assert all(START_MINUTES < each.minutes < 60 for each in short.values())
    long = sized(tmp_path, 'gpu = "h100"', steps=2_000_000_000)
    assert {each.minutes for each in long.values()} == {LONGEST_MINUTES}


def test_float8_is_sized_as_bfloat16(tmp_path: Path) -> None:
    assert sized(tmp_path, 'gpu = "h100"', precision="float8") == sized(tmp_path, 'gpu = "h100"')


def test_only_what_is_left_out_is_planned(tmp_path: Path) -> None:
    assert sized(tmp_path, "nodes = 1\ntime = 10") == {}
    assert sized(tmp_path, "") == {}  # no GPU is named
    assert list(sized(tmp_path, 'gpu = "h100"\n[slurm.depth.2]\nnodes = 1\ntime = 5')) == [3]


def test_a_gpu_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="h10000"):
        sized(tmp_path, 'gpu = "h10000"')
