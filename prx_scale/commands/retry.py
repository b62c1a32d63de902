"""`prx-scale retry`: failed runs of a study, once more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    from prx_scale.study import Study
    from slurm.plan import Planned


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Launch the failed runs of a study again, from their last checkpoint; the others as `sweep` would.

    The count of restarts begins anew.

    Example: prx-scale retry depth-sweep

    Example: prx-scale retry depth-sweep --run d38-s0 --fresh
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    runs: Annotated[tuple[str, ...], tyro.conf.arg(name="run", metavar="ID ...")] = ()
    """Ids of runs, or their beginnings; all that have failed by default."""
    fresh: bool = False
    """Start from step 0: what there is of the runs moves to the study's set-aside folder."""
    executor: Literal["auto", "local", "slurm"] = "auto"
    """Where they go: by default where the study's last job went."""
    dry_run: Literal["jobs", "scheduler"] | None = None
    """Only print what would be done; --dry-run=scheduler also asks SLURM."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """With the local executor, runs side by side; by default as many as there are cores."""

    def run(self) -> int:
        """Launch.

        Raises:
            InputError: no such study or run, none has failed, or SLURM refuses.
        """
        from prx_scale import study
        from prx_scale.commands.sweep import launch_study
        from slurm.ledger import Executor, read_ledger

        loaded = study.load(self.study_dir / "study.toml", self.study_dir)
        failed = self._failed(loaded)
        jobs = read_ledger(loaded.folder).jobs
        last = jobs[-1].executor if jobs else Executor.LOCAL
        if self.fresh and not self.dry_run:
            for run_id in failed:
                _set_aside(loaded.folder, run_id)
        executor = Executor(self.executor) if self.executor != "auto" else last
        return launch_study(loaded, executor=executor, dry_run=self.dry_run, workers=self.workers, retry=failed)

    def _failed(self, loaded: Study) -> list[str]:
        from slurm.plan import Action, jobs_of, plan

        planned = plan(loaded.runs, loaded.folder, jobs_of(loaded.folder))
        failed = [each.run.id for each in planned if each.action is Action.SKIP_FAILED]
        _check(self.runs, failed, [run.id for run in loaded.runs], loaded.folder)
        return [run_id for run_id in failed if not self.runs or run_id.startswith(self.runs)]


def _check(asked: Sequence[str], failed: Sequence[str], known: Sequence[str], folder: Path) -> None:
    for word in asked:
        if not any(run_id.startswith(word) for run_id in known):
            raise InputError(f"{folder}: no run '{word}'; {nearest(word, known)}")
        if not any(run_id.startswith(word) for run_id in failed):
            raise InputError(f"{folder}: '{word}' has not failed; `prx-scale sweep` launches what was never done")
    if not failed:
        raise InputError(f"{folder}: no run has failed; `prx-scale sweep` launches what is missing")


def _set_aside(study: Path, run_id: str) -> None:
    folder = study / "runs" / run_id
    if not folder.exists():
        return
    target = study / "set-aside"
    target.mkdir(exist_ok=True)
    number = 1
    while (target / f"{run_id}-{number}").exists():
        number += 1
    folder.rename(target / f"{run_id}-{number}")


def reset(planned: Sequence[Planned], retry: Collection[str]) -> None:
    """Let failed runs that are tried again go on from their last checkpoint.

    Args:
        planned: the runs of a study.
        retry: ids of those that are tried again.
    """
    from prx_scale.attempts import Attempts
    from prx_scale.runs import RunRecord, State

    for each in planned:
        if each.due and each.run.id in retry and each.folder.exists():
            Attempts(each.folder).retry()
            record = RunRecord(each.folder)
            info = record.read()
            if info is not None and info.state is State.FAILED:
                record.update(state=State.INTERRUPTED, reason="to be tried again")
