"""Small studies on the test cluster, launched as a user does, and the same trained on this machine to compare with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.ledger import JobRecord, Kind, read_ledger
from tests.cluster.cluster import Cluster
from tests.cluster.jobs import wait_for

ROOT = Path(__file__).parents[2]
STUDY = """
[study]
name = "{name}"
[model]
depth = {depth}
patch = 2
[training]
steps = {steps}
batch = 32
warmup = 5
[validation]
every = {every}
images = 16
[checkpoint]
every = {every}
keep = 3
[logging]
every = 5
[evaluation]
prompts_per_task = 1
images_per_prompt = 1
steps = 2
[slurm]
nodes = {nodes}
time = {minutes}
cpus_per_task = 1
{slurm}
"""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A study in a folder, and the cluster that it is launched on."""

    cluster: Cluster
    folder: Path

    def prx(self, *words: str, code: int | None = 0) -> str:
        """Run prx-scale and return what it printed; its exit code must be the one given, unless that is None."""
        done = subprocess.run(prx_command(*words), env=self.environment, capture_output=True, text=True, timeout=180)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a user who may submit to the cluster."""
        return {**os.environ, **self.cluster.environment, **VARIABLES}

    def launch(self, *words: str) -> str:
        """Submit what is missing."""
        return self.prx("sweep", str(self.folder), "--executor", "slurm", *words)

    def jobs(self, kind: Kind = Kind.TRAIN) -> list[JobRecord]:
        """All jobs of a kind that the study has had."""
        return [job for job in read_ledger(self.folder).jobs if job.kind is kind]

    def status(self) -> list[dict[str, Any]]:
        """The lines of `prx-scale status --json`."""
        content = json.loads(self.prx("status", str(self.folder), "--json"))
        return content["runs"] if isinstance(content, dict) else content

    def run_folder(self, beginning: str = "") -> Path:
        """The folder of the run whose id begins so."""
        (folder,) = (each for each in (self.folder / "runs").iterdir() if each.name.startswith(beginning))
        return folder

    def info(self, beginning: str = "") -> dict[str, Any]:
        """A run's run.json; empty before its start."""
        runs = self.folder / "runs"
        files = list(runs.glob(f"{beginning}*/run.json"))
        return json.loads(files[0].read_text()) if files else {}

    def step(self, beginning: str = "") -> int:
        """The last step of a run that was logged."""
        rows = self.rows("train", beginning)
        return rows[-1]["step"] if rows else 0

    def rows(self, table: str, beginning: str = "") -> list[dict[str, Any]]:
        """The whole rows of a run's table."""
        files = list((self.folder / "runs").glob(f"{beginning}*/{table}.jsonl"))
        if not files:
            return []
        lines = files[0].read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def wait(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something; says how the cluster stands where it does not come."""
        wait_for(self.cluster, ready, seconds, what)

    def wait_done(self, seconds: float = 150) -> None:
        """Wait until every run has ended, and none has failed."""
        self.wait(lambda: set(self._states() or ["?"]) <= {"done", "failed"}, seconds, "the end of all runs")
        assert set(self._states()) == {"done"}, self.status()

    def _states(self) -> list[str]:
        """The states of all runs; empty until each has been started."""
        launched = {job.run for job in self.jobs()}
        files = list(self.folder.glob("runs/*/run.json"))
        return [json.loads(file.read_text())["state"] for file in files] if len(files) >= len(launched) > 0 else []


VARIABLES = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def prx_command(*words: str) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "prx_scale", *words]


def write_study(
    folder: Path,
    *,
    depth: str = "1",
    steps: int = 60,
    every: int = 20,
    nodes: int = 1,
    minutes: int = 5,
    slurm: str = "",
) -> Path:
    """Write a study.toml into a folder of its own and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = STUDY.format(
        name=folder.name, depth=depth, steps=steps, every=every, nodes=nodes, minutes=minutes, slurm=slurm
    )
    (folder / "study.toml").write_text(text)
    return folder


def train_here(folder: Path) -> Path:
    """Train the single run of a study in one process of this machine; its folder."""
    done = subprocess.run(
        prx_command("train", str(folder)), env={**os.environ, **VARIABLES}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder / "runs").iterdir()
    return run
