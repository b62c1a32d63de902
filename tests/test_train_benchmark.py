"""The benchmarks of training steps run at a tiny size, compare one function, and write what they measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "train"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, imported as they import each other."""
    pytest.importorskip("diffusers")
    sys.path.insert(0, str(FOLDER))
    import models
    import subjects
    import tables
    import timing

    found = {each.__name__: each for each in (models, subjects, tables, timing)}
    yield found
    del sys.path[0]
    for name in found:
        sys.modules.pop(name)


def run(script: str, *words: str) -> str:
    command = [sys.executable, "-W", "ignore", str(FOLDER / script), *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_toy_is_compared(modules: dict[str, ModuleType]) -> None:
    text = run("compare.py", "--toy", "--turns", "3", "--precisions", "float32", "bf16")
    rows = [line for line in text.splitlines() if line.startswith("| depth 2, width 128")]
    assert [row.split(" | ")[1] for row in rows] == ["float32", "bf16"]
    assert f"torch {torch.__version__}" in text


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_part_of_the_gpu_script_runs_without_a_gpu(modules: dict[str, ModuleType]) -> None:
    text = run("gpu.py", "--device", "cpu", "--toy", "--seconds", "1")
    for part in ("matmul rate", "gradients, compiled", "that of diffusers", "bf16, compiled: ours", "at equal FLOPs"):
        assert part in text
    assert "of the measured matmul rate" in text and "left out" not in text


def test_models_that_differ_are_not_timed(modules: dict[str, ModuleType]) -> None:
    subjects, case = modules["subjects"], modules["models"].Case
    toy = case(depth=1, width=64, batch=2, side=2, text=3, channels=2, context=8, pooled=8)
    cpu = torch.device("cpu")
    mine, yours = (make(toy, "float32", cpu, backend=None) for make in (subjects.our_subject, subjects.their_subject))
    subjects.check(mine, yours, "float32")
    with torch.no_grad():
        mine.model.layers["0"].image.q.bias.add_(1)
    with pytest.raises(SystemExit, match="the models differ"):
        subjects.check(mine, yours, "float32")


def test_ratios_are_taken_within_a_turn(modules: dict[str, ModuleType]) -> None:
    times = modules["timing"].Times
    above = times(cpu=np.array([2.0, 20.0, 3.0]), wall=np.ones(3))
    below = times(cpu=np.array([1.0, 10.0, 1.0]), wall=np.ones(3))
    assert modules["tables"].ratio(above, below) == "2.00 (2.00 to 2.50)"


def test_every_task_has_as_many_turns(modules: dict[str, ModuleType]) -> None:
    calls: list[str] = []
    tasks = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    times = modules["timing"].alternate(tasks, turns=4, seconds=60, device=torch.device("cpu"), warmup=1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert [len(each.cpu) for each in times.values()] == [4, 4]


def test_a_measurement_without_onednn_says_so(modules: dict[str, ModuleType]) -> None:
    each = modules["timing"].Times(cpu=np.array([0.5]), wall=np.array([0.5]))
    names = ("ours", "theirs", "theirs, fused", "ours, gradients", "theirs, gradients")
    measured = SimpleNamespace(
        case="a shape", precision="float32", compiled=True, onednn=False, times=dict.fromkeys(names, each)
    )
    row = "| a shape | float32 | compiled, torch's products | 500 ms | 500 ms | 1.00 (1.00 to 1.00) |"
    assert row in modules["tables"].render([measured], threads=1)


def test_the_page_has_a_place_for_the_table() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "<!-- benchmark: train -->" in text and "<!-- end of benchmark: train -->" in text
