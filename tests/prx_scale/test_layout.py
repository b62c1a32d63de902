"""Layouts that cannot be are refused before anything starts, with those that can."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.layout import data_parallel, divisors, micro_batch, shares_sequence
from prx_scale.study import load

STUDY = """
[study]
name = "s"
[model]
depth = {depth}
{model}
[data]
dataset = "random"
image_size = 256
[training]
steps = 100
batch = 64
[parallel]
{parallel}
"""


def run(folder: Path, parallel: str, depth: int = 38, model: str = "") -> RunConfig:
    (folder / "study.toml").write_text(STUDY.format(depth=depth, model=model, parallel=parallel))
    return load(folder).runs[0]


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ("tp = 4", r"\[parallel\] tp: 4 does not divide the 38 heads of width 2432; possible: 1, 2, 19, 38"),
        (
            "cp = 3",
            r"\[parallel\] cp: twice 3 does not divide the 256 image tokens; possible: 1, 2, 4, 8, 16, 32",
        ),
        ("tp = 2\ncompile = true\ncheckpointing = 'selective'", r"checkpointing: selective inside compiled blocks"),
        ("checkpointing = 'some'", r"checkpointing: 'some' is not a choice"),
    ],
)
def test_an_impossible_layout_is_refused_with_the_possible_ones(parallel: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, parallel)


@pytest.mark.parametrize(
    ("parallel", "world", "message"),
    [
        (
            "tp = 2\ncp = 2",
            6,
            r"dp_replicate 1 x dp_shard -1 x tp 2 x cp 2 does not give the 6 proc.*multiple of 4",
        ),
        ("tp = 2", 6, r"batch: 64 images cannot be dealt out over 3 groups of 2 processes; a multiple of 63 can"),
    ],
)
def test_what_does_not_fit_the_processes_is_refused(parallel: str, world: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        micro_batch(run(tmp_path, parallel), world)


def test_processes_that_share_an_image_count_once(tmp_path: Path) -> None:
    both = run(tmp_path, "tp = 2\ncp = 2\ndp_replicate = 2")
    assert data_parallel(both, 16) == 4
    assert micro_batch(both, 16) == 16


def test_tokens_are_shared_out_only_where_they_divide(tmp_path: Path) -> None:
    assert shares_sequence(run(tmp_path, "tp = 2"))
    assert not shares_sequence(run(tmp_path, "tp = 2\nsequence_parallel = false"))
    assert not shares_sequence(run(tmp_path, "tp = 3", depth=15))
    assert not shares_sequence(run(tmp_path, ""))


@given(st.integers(1, 5000))
def test_divisors_are_all_that_divide(number: int) -> None:
    assert divisors(number) == [each for each in range(1, number + 1) if number % each == 0]
