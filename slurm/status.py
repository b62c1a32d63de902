"""How the runs of a study stand, from their records alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prx_scale.config import RunConfig
from prx_scale.locks import is_held
from prx_scale.runs import RunInfo, State, load_runs
from prx_scale.study import load as load_study

TAIL_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One line of the status table."""

    run: str
    variant: str
    depth: int
    seed: int
    params: int | None
    """None while the run has not started."""
    state: str
    """As recorded, "pending" before the start, or "killed" where the record says running but no process is at work."""
    step: int
    steps: int
    loss: float | None
    samples_per_second: float | None
    seconds_left: float | None
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """The line as JSON types."""
        return asdict(self)


def study_status(study_folder: Path) -> list[RunStatus]:
    """How every run of a study stands, those not started yet included where the folder has the study file.

    Args:
        study_folder: has study.toml, runs/<run>/run.json or both.

    Raises:
        InputError: there are no runs and no study file, or one of them is damaged.
    """
    if not (study_folder / "study.toml").exists():
        return [run_status(info) for info in load_runs(study_folder)]
    planned = load_study(study_folder).runs
    started = [run_status(info) for info in load_runs(study_folder)] if _any_run(study_folder) else []
    known = {status.run for status in started}
    return [*started, *(_pending(run) for run in planned if run.id not in known)]


def _any_run(study_folder: Path) -> bool:
    return any(study_folder.glob("runs/*/run.json"))


def _pending(run: RunConfig) -> RunStatus:
    return RunStatus(
        run=run.id,
        variant=run.variant,
        depth=run.model.depth,
        seed=run.training.seed,
        params=None,
        state=State.PENDING.value,
        step=0,
        steps=run.training.steps,
        loss=None,
        samples_per_second=None,
        seconds_left=None,
        reason=None,
    )


def run_status(info: RunInfo) -> RunStatus:
    """How a run stands.

    Args:
        info: its run.json.
    """
    last = last_row(info.folder / "train.jsonl") or {}
    step = max(info.step, int(last.get("step", 0)))
    speed = last.get("samples_per_second")
    running = info.state is State.RUNNING
    killed = running and not is_held(info.folder)
    left = None
    if running and not killed and speed:
        left = (info.steps - step) * info.config["training"]["batch"] / float(speed)
    return RunStatus(
        run=info.run,
        variant=info.variant,
        depth=info.depth,
        seed=info.seed,
        params=info.parameters.backbone,
        state="killed" if killed else info.state.value,
        step=step,
        steps=info.steps,
        loss=last.get("loss"),
        samples_per_second=speed,
        seconds_left=left,
        reason=info.reason,
    )


def last_row(path: Path) -> dict[str, Any] | None:
    """The last whole row of a JSON-lines file, without reading the rest.

    Args:
        path: the file; a missing one has none.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    # What follows the last newline is a row still being written.
    for line in reversed(_whole(lines, size)):
        if line:
            return json.loads(line)
    return None


def _whole(lines: Sequence[bytes], size: int) -> Sequence[bytes]:
    return lines[1:-1] if size > TAIL_BYTES else lines[:-1]
