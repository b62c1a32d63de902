"""`prx-scale plan` as its user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "80"}
NUMBERS = (
    "params_total",
    "params_by_part",
    "flops_per_image_forward",
    "flops_per_run",
    "step_time_s",
    "mfu",
    "gpu_hours",
    "days",
    "validation_gib",
    "communication_bytes_per_step",
)


def plan(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the verb."""
    command = [sys.executable, "-m", "prx_scale", "plan", *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def document(*words: str, code: int = 0) -> dict[str, Any]:
    """The JSON of a plan."""
    return json.loads(plan(*words, "--json", "-", code=code).stdout)


@pytest.mark.slow
def test_a_plan_has_every_number_with_its_basis(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    words = ("--depth", "15", "--gpus", "8", "--batch", "256", "--steps", "1000", "--tp", "1", "--ac", "full")
    text = plan(*words, "--price", "2", "--json", str(path)).stdout
    found = json.loads(path.read_text())
    for name in NUMBERS:
        assert found[name]["kind"] in ("exact", "estimate")
        assert found[name]["basis"]
    assert found["params_total"] == {**found["params_total"], "value": 496_070_464, "kind": "exact"}
    assert found["flops_per_image_forward"]["value"] == 144_766_264_320
    assert found["flops_per_run"]["value"] == 3 * 144_766_264_320 * 256_000
    memory = found["memory_gib"]
    assert memory["parameters"]["kind"] == "exact" and memory["activations"]["kind"] == "estimate"
    kinds = [value["value"] for name, value in memory.items() if name != "total"]
    assert memory["total"]["value"] == pytest.approx(sum(kinds))
    assert memory["parameters"]["value"] == pytest.approx(496_070_464 / 8 * 4 / 2**30, rel=1e-3)
    images = found["images_per_second"]["value"]
    assert found["mfu"]["value"] == pytest.approx(3 * 144_766_264_320 * images / (8 * 989.4e12))
    hours = found["gpu_hours"]["value"]
    assert hours == pytest.approx(1000 * found["step_time_s"]["value"] * 8 / 3600)
    assert found["cost"]["value"] == pytest.approx(2 * hours)
    assert found["layout"]["dp_shard"] == 8 and found["layout"]["checkpointing"] == "full"
    for shown in ("496,070,464", "activations", "MFU", "not measured"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.slow
def test_where_nothing_fits_the_smallest_change_is_told() -> None:
    words = ("--depth", "30", "--gpus", "1", "--batch", "8", "--ac", "full", "--tp", "1", "--memory-headroom", "0.1")
    found = document(*words, code=1)
    assert found["fits"]["value"] is False
    assert found["memory_gib"]["total"]["value"] > 0.9 * 79.1
    assert found["remedy"].startswith("--gpus 2 ")


@pytest.mark.slow
def test_the_runs_of_a_study_are_planned_with_their_own_layouts(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        '[study]\nname = "s"\n[model]\ndepth = [1, 2]\npatch = 4\n'
        "[training]\nsteps = 10\nbatch = 16\nlr = [1e-3, 2e-3]\nwarmup = 0\n"
        '[parallel]\nmicro_batch = 4\ncheckpointing = "full"\n'
    )
    found = document(str(study), "--gpus", "2")["plans"]
    assert [each["run"]["depth"] for each in found] == [1, 2]  # rates do not change what a run takes
    for each in found:
        assert each["layout"]["micro_batch"] == 4
        assert each["layout"]["accumulation"] == 2
        assert each["layout"]["checkpointing"] == "full"
    told = plan(str(study), "--gpus", "3", code=2).stderr
    assert f"{study}: [training] batch: 16 images cannot be dealt out over 3" in " ".join(told.split())
    assert "15 or 18 can, or other --gpus" in " ".join(told.split())


@pytest.mark.slow
def test_depth_38_is_planned_within_a_minute_of_two_cores() -> None:
    before = os.times()
    start = time.monotonic()
    found = document("--depth", "38", "--resolution", "256", "--gpus", "128", "--steps", "500000", "--batch", "4096")
    after = os.times()
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    assert min(used, time.monotonic() - start) < 60  # on a busy machine time on the clock says little
    assert found["params_total"]["value"] == 8_056_627_520
    assert found["flops_per_run"]["value"] == 13_922_145_776_173_056_000_000
    assert found["fits"]["value"] is True
    assert {row["layout"]["tp"] for row in found["table"]} == {1, 2}
    times = [row["step_time_s"]["value"] for row in found["table"] if row["fits"]]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "8"], "give --depth, or a study file"),
        (["--depth", "0"], "give --depth, or a study file"),
        (["--depth", "-3"], "--depth: -3 is too small"),
        (["--depth", "8", "--gpu", "h10"], "did you mean 'h100'"),
        (["--depth", "8", "--resolution", "100"], "multiples of 16"),
        (["--depth", "8", "--resolution", "big"], "neither pixels along a side"),
        (["--depth", "8", "--width", "100"], "not a multiple of 64"),
        (["--depth", "8", "--batch", "0"], "--batch: 0 is too small"),
        (["--depth", "8", "--price", "-1"], "--price: -1 is negative"),
        (["--depth", "8", "--memory-headroom", "90"], "leaves nothing"),
    ],
)
def test_bad_input_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from prx_scale.cli import parse
    from prx_scale.errors import InputError

    with pytest.raises(InputError, match=message):
        parse(["plan", *words]).run()


def test_without_torch_parameters_and_flops_are_told_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    code = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)
import prx_scale.cli as cli
verb = cli.parse(["plan", "--depth", "38", "--json", {str(path)!r}])
sys.modules["torch"] = None  # what an import of a missing module comes to
cli.parse = lambda words: verb
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "8,056,627,520" in done.stdout
    assert "needs torch: pip install 'prx-scale[train]'" in done.stderr
    assert json.loads(path.read_text())["params_total"]["value"] == 8_056_627_520


@pytest.mark.slow
def test_the_stages_of_a_run_are_planned_one_by_one_and_summed(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        '[study]\nname = "s"\n[model]\ndepth = 1\npatch = 4\nposition_grid = 8\n[training]\nbatch = 16\nwarmup = 0\n'
        '[[stage]]\nname = "small"\nsteps = 10\n'
        '[[stage]]\nname = "large"\nsteps = 20\nimage_size = 32\nbatch = 8\nreplay = "small"\nreplay_share = 0.5\n'
    )
    found = document(str(study), "--gpus", "2", "--price", "3")
    assert [each["stage"] for each in found["plans"]] == ["small", "large", "large, replaying small"]
    assert [each["run"]["image_tokens"] for each in found["plans"]] == [16, 64, 16]
    assert [each["run"]["batch"] for each in found["plans"]] == [16, 8, 8]
    assert sum(each["run"]["steps"] for each in found["plans"]) == 30
    (whole,) = found["runs"]
    assert whole["images"] == 10 * 16 + 20 * 8
    assert whole["flops_per_run"] == sum(each["flops_per_run"]["value"] for each in found["plans"])
    assert whole["gpu_hours"] == pytest.approx(sum(each["gpu_hours"]["value"] for each in found["plans"]))
    assert whole["cost"] == pytest.approx(3 * whole["gpu_hours"])
