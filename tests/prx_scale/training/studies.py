"""A small study and ways to train it in processes of its own, as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SMALL = """
[study]
name = "small"
[model]
depth = {depth}
patch = 4
[training]
steps = {steps}
batch = 16
lr = {lr}
warmup = 4
[validation]
every = 4
images = 9
[checkpoint]
every = 6
[logging]
every = 1
"""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def write_study(folder: Path, *, depth: int = 1, steps: int = 20, lr: float = 1e-3, more: str = "") -> Path:
    """Write a study.toml into a folder of its own and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(SMALL.format(depth=depth, steps=steps, lr=lr) + more)
    return folder


def command(study: Path, processes: int = 1) -> list[str]:
    """The command that trains the study's single run."""
    verb = ["-m", "prx_scale", "train", str(study)]
    if processes == 1:
        return [sys.executable, *verb]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launcher, *verb]


def train(study: Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Train to the end."""
    return subprocess.run(
        command(study, processes), env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )


def run_folder(study: Path) -> Path:
    """The folder of the study's single run."""
    (folder,) = (study / "runs").iterdir()
    return folder


def info(study: Path) -> dict[str, object]:
    """The single run's run.json."""
    return json.loads((run_folder(study) / "run.json").read_text())
