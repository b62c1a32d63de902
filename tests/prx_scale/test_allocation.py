"""The [slurm] table: what each depth asks for, and what is refused with which hint."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.allocation import Allocation, Sized, minutes, parse
from prx_scale.errors import InputError

WHERE = "study.toml: [slurm]"
TABLE: dict[str, Any] = {
    "nodes": 2,
    "gpus_per_node": 8,
    "cpus_per_task": 12,
    "time": "1-0",
    "partition": "gpu",
    "exclude": ["n3", "n4"],
    "exclusive": True,
    "contiguous": False,
    "setup": ["module load cuda"],
    "depth": {"38": {"nodes": 16, "time": "3-00:00:00", "qos": "long"}, "24-30": {"nodes": 4, "time": 45}},
    "report": {"partition": "cpu", "time": 30},
}


def test_each_depth_has_its_own_allocation() -> None:
    settings = parse(TABLE, WHERE)
    plain = settings.training(15, None)
    options = (("exclude", "n3,n4"), ("exclusive", True), ("partition", "gpu"))
    assert plain == Allocation(
        nodes=2,
        ntasks_per_node=8,
        gpus_per_node=8,
        cpus_per_task=12,
        minutes=24 * 60,
        options=options,
        setup=("module load cuda",),
    )
    assert (plain.world_size, plain.gpu_hours) == (16, 2 * 8 * 24)
    assert (settings.training(27, None).nodes, settings.training(27, None).minutes) == (4, 45)
    deep = settings.training(38, None)
    assert (deep.nodes, deep.minutes, dict(deep.options)["qos"]) == (16, 3 * 24 * 60, "long")


def test_jobs_that_follow_are_small() -> None:
    settings = parse(TABLE, WHERE)
    scores, report = settings.following("evaluate"), settings.following("report")
    assert (scores.world_size, scores.gpus_per_node, scores.minutes) == (1, 1, 240)
    assert (report.world_size, report.gpus_per_node, report.minutes) == (1, 0, 30)
    assert dict(report.options)["partition"] == "cpu"


def test_the_planner_fills_what_is_left_out() -> None:
    settings = parse({"gpus_per_node": 8}, WHERE)
    planned = settings.training(24, Sized(nodes=4, minutes=90))
    assert (planned.nodes, planned.minutes, planned.world_size) == (4, 90, 32)
    assert parse({"nodes": 1}, WHERE).training(1, Sized(nodes=9, minutes=7)).nodes == 1
    with pytest.raises(InputError, match=r"\[slurm\] nodes: missing for depth 24; give it here or in"):
        settings.training(24, None)
    with pytest.raises(InputError, match=r"\[slurm\] time: missing"):
        parse({"nodes": 1}, WHERE).training(24, None)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"partitions": "a"}, r"\[slurm\] partitions: .*did you mean 'partition'\?"),
        ({"mem-per-cpu": 1}, r"mem-per-cpu: .*use 'mem_per_cpu'"),
        ({"node": 3}, r"node: .*did you mean 'nodes'\?"),
        ({"nodes": "3"}, "nodes: expected a whole number, found '3'"),
        ({"nodes": -1}, "nodes: -1 is too small; at least 0"),
        ({"job_name": "x"}, "job_name: is set by the sweep itself"),
        ({"job-name": "x"}, "job-name: is set by the sweep itself"),
        ({"ntasks": 2}, "ntasks: .*give nodes and ntasks_per_node"),
        ({"mem": 1.5}, "mem: expected a text, a whole number"),
        ({"time": "tomorrow"}, "time: 'tomorrow' is no time limit; write minutes"),
        ({"time": "0"}, "time: '0' is no time limit"),
        ({"then": ["eval"]}, r"then: 'eval' is not a choice; did you mean 'evaluate'\?"),
        ({"depth": {"deep": {}}}, r"\[slurm.depth.deep\]: expected a depth, as \[slurm.depth.38\]"),
        ({"depth": {"38-30": {}}}, r"\[slurm.depth.38-30\]: expected a depth"),
        ({"depth": {"38": {"time": "x"}}}, r"\[slurm.depth.38\] time: 'x' is no time limit"),
        ({"depth": {"38": {"max_restarts": 1}}}, r"\[slurm.depth.38\] max_restarts: holds for the whole sweep"),
        ({"depth": {"38": 3}}, r"\[slurm.depth.38\]: must be a table, found 3"),
        ({"depth": 3}, "depth: overrides of a depth are a table of their own"),
        ({"evaluate": {"parttion": "x"}}, r"\[slurm.evaluate\] parttion: .*did you mean 'partition'\?"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(table, WHERE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90:00", 90), ("1:30:00", 90), ("1-12", 2160), ("1-12:30", 2190), ("0:01", 1), ("2-00:00:01", 2881)],
)
def test_time_limits_are_read_as_slurm_writes_them(text: str, expected: int) -> None:
    assert minutes(text, "where") == expected


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_time_limit_is_never_shorter_than_written(days: int, hours: int, mins: int, seconds: int) -> None:
    total = ((days * 24 + hours) * 60 + mins) * 60 + seconds
    if total:
        found = minutes(f"{days}-{hours:02d}:{mins:02d}:{seconds:02d}", "where")
        assert 0 <= found * 60 - total < 60
