"""One process equals many: every layout trains the same run, and each goes on from the checkpoints of the others."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from prx_scale import runs
from tests.prx_scale.training.studies import ended, free_ports, run_folder, start, train, write_study

pytestmark = pytest.mark.slow

STEPS = 10
LAYOUTS = {
    "fsdp2": (2, ""),
    "tp2": (2, "tp = 2\nsequence_parallel = false"),
    "tp2-sequence": (2, "tp = 2"),
    "cp2": (2, "cp = 2"),
    "accumulate": (2, "micro_batch = 4\nreshard = 'never'"),
    "tp2-full": (2, "tp = 2\ncheckpointing = 'full'"),
    "hsdp": (4, "dp_replicate = 2\nreshard = 'always'"),
    "fsdp2-tp2": (4, "tp = 2\ncheckpointing = 'selective'"),
    "cp2-tp2": (4, "cp = 2\ntp = 2"),
    "cp2-fsdp2": (4, "cp = 2\ncheckpointing = 'full'"),
}
"""Name -> processes, and what [parallel] says."""


def train_each(studies: list[Path], processes: int) -> None:
    """Train runs one after another in the same processes."""
    script = str(Path(__file__).with_name("train_each.py"))
    ports = free_ports(len(studies))
    command = [sys.executable, script, *(f"{study}:{port}" for study, port in zip(studies, ports, strict=True))]
    for code, errors in ended(start(command, processes)):
        assert code == 0, errors


def write(folder: Path, parallel: str) -> Path:
    """Ten steps with checkpoints every three."""
    study = write_study(folder, depth=2, steps=STEPS)
    text = (study / "study.toml").read_text().replace("patch = 4\n", "patch = 4\npositions = 'learned'\n")
    text = text.replace("[checkpoint]\nevery = 6", "[checkpoint]\nevery = 3")
    (study / "study.toml").write_text(f"{text}[parallel]\n{parallel}\n")
    return study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The study of one process, under "one", and those of all layouts."""
    base = tmp_path_factory.mktemp("layouts")
    studies = {"one": write(base / "one", "")}
    assert train(studies["one"]).returncode == 0
    studies |= {name: write(base / name, parallel) for name, (_, parallel) in LAYOUTS.items()}
    for processes in (2, 4):
        train_each([studies[name] for name, (count, _) in LAYOUTS.items() if count == processes], processes)
    return studies


def assert_close(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Loss and norm of gradients of every step, validation loss of both kinds of weights."""
    for table, columns in (("train", ("loss", "grad_norm", "lr")), ("validation", ("loss",))):
        a, b = (runs.load(each, table) for each in (one, other))  # type: ignore[arg-type]
        assert a["step"].to_list() == b["step"].to_list()
        for column in columns:
            assert (a[column] - b[column]).abs().max() < tolerance, column  # type: ignore[operator]


def states(study: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """Weights, averages and optimiser state of the last checkpoint, whole."""
    file = scratch / f"{study.name}.pt"
    dcp_to_torch_save(run_folder(study) / "checkpoint" / f"step-{STEPS}", file)
    flat: dict[str, torch.Tensor] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(f"{prefix}/{name}", each)
        elif isinstance(value, torch.Tensor):
            flat[prefix] = value

    walk("", torch.load(file, weights_only=False))
    return flat


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_follows_the_curve_of_one_process(layout: str, trained: dict[str, Path], tmp_path: Path) -> None:
    assert json.loads((run_folder(trained[layout]) / "run.json").read_text())["world_size"] == LAYOUTS[layout][0]
    assert_close(trained["one"], trained[layout])
    one, other = (states(trained[name], tmp_path) for name in ("one", layout))
    assert one.keys() == other.keys() and any(name.startswith("/ema/") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(
            other[name], value, atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_muon_and_mup_follow_the_same_curve_on_shards(tmp_path: Path) -> None:
    """Muon makes singular values equal in bfloat16, whose rounding the layout changes."""
    studies = {name: write(tmp_path / name, parallel) for name, parallel in (("alone", ""), ("tp", "tp = 2"))}
    for study in studies.values():
        text = (study / "study.toml").read_text()
        text = text.replace("[training]\n", "mup_base_width = 64\nmup_base_depth = 1\n[training]\noptimizer = 'muon'\n")
        (study / "study.toml").write_text(text)
    train_each([studies["alone"]], 1)
    train_each([studies["tp"]], 2)
    assert_close(studies["alone"], studies["tp"], tolerance=1e-3)


def test_three_weight_sets_follow_the_same_curve_on_shards(tmp_path: Path) -> None:
    studies = {name: write(tmp_path / name, parallel) for name, parallel in (("alone", ""), ("four", "tp = 2\ncp = 2"))}
    for study in studies.values():
        text = (study / "study.toml").read_text()
        text = text.replace("[training]\n", "weight_sets = 3\n[data]\nencoders = 2\n[training]\n")
        (study / "study.toml").write_text(text)
    train_each([studies["alone"]], 1)
    train_each([studies["four"]], 4)
    assert_close(studies["alone"], studies["four"])


def cut_back(study: Path, copy: Path, parallel: str, step: int = 3) -> Path:
    """A copy of a study as it was after the checkpoint of a step, with another layout."""
    shutil.copytree(study, copy)
    text = (copy / "study.toml").read_text()
    (copy / "study.toml").write_text(text[: text.index("[parallel]")] + f"[parallel]\n{parallel}\n")
    folder = run_folder(copy)
    for checkpoint in folder.glob("checkpoint/step-*"):
        if checkpoint.name != f"step-{step}":
            shutil.rmtree(checkpoint)
    assert (folder / "checkpoint" / f"step-{step}").is_dir()
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"state": "interrupted"}))
    return copy


def test_a_checkpoint_of_one_layout_is_gone_on_from_on_another(trained: dict[str, Path], tmp_path: Path) -> None:
    """FSDP2 of two processes -> one process -> FSDP2 x TP of four; FSDP2 -> TP."""
    alone = cut_back(trained["fsdp2"], tmp_path / "alone", "")
    assert train(alone).returncode == 0
    assert_close(trained["one"], alone)
    tensor = cut_back(trained["fsdp2"], tmp_path / "tensor", LAYOUTS["tp2-sequence"][1])
    train_each([tensor], 2)
    assert_close(trained["one"], tensor)
    four = cut_back(alone, tmp_path / "four", LAYOUTS["fsdp2-tp2"][1], step=6)
    train_each([four], 4)
    assert_close(trained["one"], four)


def test_bfloat16_keeps_float32_weights_and_state(tmp_path: Path) -> None:
    study = write(tmp_path / "bf16", "")
    text = (study / "study.toml").read_text().replace("batch = 16\n", "batch = 16\nprecision = 'bfloat16'\n")
    (study / "study.toml").write_text(text)
    assert train(study).returncode == 0
    held = states(study, tmp_path)
    assert {value.dtype for value in held.values() if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("parallel", ["", "tp = 2\ncheckpointing = 'full'"])
def test_compiled_blocks_follow_the_same_curve(parallel: str, trained: dict[str, Path], tmp_path: Path) -> None:
    study = write(tmp_path / "compiled", f"compile = true\n{parallel}")
    train_each([study], 2 if parallel else 1)
    assert_close(trained["one"], study)
