"""Processes that a launcher starts: how they are called, and that they end with it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from prx_scale.stopping import signalled_with_parent
from slurm.local import PARENT_VARIABLE, Job


def train_job(study_folder: Path, run_id: str) -> Job:
    """The job that trains a run.

    Args:
        study_folder: has the study.toml.
        run_id: of the run.
    """
    command = (sys.executable, "-m", "prx_scale", "train", str(study_folder), "--run", run_id)
    return Job(name=run_id, command=command, output=study_folder / "runs" / run_id / "console.log")


def evaluate_job(study_folder: Path, run_ids: tuple[str, ...], name: str) -> Job:
    """The job that evaluates runs one after another.

    Args:
        study_folder: has the runs.
        run_ids: of the runs.
        name: of the job, and of its log.
    """
    command = (sys.executable, "-m", "prx_scale", "evaluate", str(study_folder), "--run", *run_ids)
    return Job(name=name, command=command, output=study_folder / f"{name}.log")


def end_with_parent() -> None:
    """Started by a launcher, be asked to stop when it dies (Linux), so that no run goes on unseen."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or not sys.platform.startswith("linux"):
        return
    signalled_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)


def quiet_threads() -> None:
    """Let waiting compute threads sleep: where cores are shared, spinning ones starve those that work.

    Must be called before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
