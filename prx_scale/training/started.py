"""What run.json says of a run that is started: sizes, versions, code and device."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from parallel.titan import device_name
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import parameters, training_flops
from prx_scale.runs.clock import now
from prx_scale.runs.info import Parameters, RunInfo, State


def started(run: RunConfig, world_size: int, before: RunInfo | None) -> RunInfo:
    """What run.json says of a run that is started.

    Args:
        run: the run.
        world_size: processes.
        before: what it said until now; None for the first start.
    """
    shape = model_shape(run)
    counts = parameters(shape)
    code, dirty = commit(Path(__file__).resolve().parent)
    started = RunInfo(
        run=run.id,
        study=run.study,
        variant=run.variant,
        state=State.RUNNING,
        config=run.to_json(),
        depth=run.model.depth,
        seed=run.training.seed,
        parameters=Parameters(
            backbone=counts.backbone,
            embedding=counts.embedding,
            by_part={name: getattr(counts, name) for name in counts.__dataclass_fields__},
        ),
        flops_per_sample=training_flops(shape),
        tokens_per_sample=run.tokens_per_sample,
        versions=_versions(),
        commit=code,
        dirty=dirty,
        device=f"{device_name()}, {torch.get_num_threads()} threads" if _on_cpu() else device_name(),
        world_size=world_size,
        steps=run.training.steps,
        created=now(),
        updated=now(),
    )
    if before is None:
        return started
    return replace(started, created=before.created, wall_seconds=before.wall_seconds, step=before.step)


def _on_cpu() -> bool:
    return not torch.accelerator.is_available()


def _versions() -> dict[str, str]:
    packages = ("prx-scale", "torch", "torchtitan", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def commit(package: Path) -> tuple[str | None, bool | None]:
    """The commit of the code that runs, and whether files differed from it; None where that cannot be known.

    A snapshot that was made for a job has both in `code.json` beside the packages; else git is asked.

    Args:
        package: a folder of code, two levels below the one that has the packages.

    Raises:
        InputError: code.json is not what a snapshot has.
    """
    snapshot = package.parents[1] / "code.json"
    if snapshot.is_file():
        return _snapshot_commit(snapshot)

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "."):
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _snapshot_commit(file: Path) -> tuple[str | None, bool | None]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content["commit"], content["dirty"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f'{file}: not of a snapshot, which has "commit" and "dirty" ({error!r})') from error
