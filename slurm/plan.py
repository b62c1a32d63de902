"""What a study still needs: launching it twice adds only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from prx_scale.config import RunConfig
from prx_scale.locks import is_held
from prx_scale.runs import RunRecord, State


class Action(StrEnum):
    """What a launch does with a run."""

    START = "start"
    RESUME = "resume"
    SKIP_DONE = "skip: done"
    SKIP_FAILED = "skip: failed"
    LEAVE = "leave: running"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run and what a launch does with it."""

    run: RunConfig
    folder: Path
    action: Action
    reason: str | None = None
    """Why a failed run failed."""

    @property
    def due(self) -> bool:
        """Whether it is to be worked on."""
        return self.action in (Action.START, Action.RESUME)


def plan(runs: Sequence[RunConfig], study_folder: Path) -> list[Planned]:
    """Decide what to do with every run of a study, without doing it.

    Args:
        runs: of the study.
        study_folder: where they go.
    """
    return [_plan_one(run, study_folder / "runs" / run.id) for run in runs]


def _plan_one(run: RunConfig, folder: Path) -> Planned:
    info = RunRecord(folder).read()
    if is_held(folder):
        return Planned(run=run, folder=folder, action=Action.LEAVE)
    if info is None:
        return Planned(run=run, folder=folder, action=Action.START)
    if info.state is State.DONE:
        return Planned(run=run, folder=folder, action=Action.SKIP_DONE)
    if info.state is State.FAILED:
        return Planned(run=run, folder=folder, action=Action.SKIP_FAILED, reason=info.reason)
    return Planned(run=run, folder=folder, action=Action.RESUME)
