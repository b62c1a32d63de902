"""`prx-scale retry`: failed runs of a study, once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    from prx_scale.study import Study
    from slurm.plan import Again, Planned


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
        from slurm.plan import Again

        loaded = study.load(self.study_dir / "study.toml", self.study_dir)
        retry = Again(jobs=self._failed(loaded), fresh=self.fresh)
        jobs = read_ledger(loaded.folder).jobs
        last = jobs[-1].executor if jobs else Executor.LOCAL
        executor = Executor(self.executor) if self.executor != "auto" else last
        return launch_study(loaded, executor=executor, dry_run=self.dry_run, workers=self.workers, retry=retry)

    def _failed(self, loaded: Study) -> dict[str, str | None]:
        """The failed runs that are meant, and the last job of each."""
        from slurm.plan import Action, jobs_of, plan

        jobs = jobs_of(loaded.folder)
        planned = plan(loaded.runs, loaded.folder, jobs)
        failed = [each.run.id for each in planned if each.action is Action.SKIP_FAILED]
        _check(self.runs, failed, [run.id for run in loaded.runs], loaded.folder)
        return {run_id: jobs.last(run_id) for run_id in failed if not self.runs or run_id.startswith(self.runs)}


def _check(asked: Sequence[str], failed: Sequence[str], known: Sequence[str], folder: Path) -> None:
    for word in asked:
        if not any(run_id.startswith(word) for run_id in known):
            raise InputError(f"{folder}: no run '{word}'; {nearest(word, known)}")
        if not any(run_id.startswith(word) for run_id in failed):
            raise InputError(f"{folder}: '{word}' has not failed; `prx-scale sweep` launches what was never done")
    if not failed:
        raise InputError(f"{folder}: no run has failed; `prx-scale sweep` launches what is missing")


def _set_aside(folder: Path) -> None:
    target = folder.parents[1] / "set-aside"
    target.mkdir(exist_ok=True)
    number = 1
    while (target / f"{folder.name}-{number}").exists():
        number += 1
    folder.rename(target / f"{folder.name}-{number}")


def reset(planned: Sequence[Planned], retry: Again) -> None:
    """Let failed runs that are tried again go on from their last checkpoint, or set aside what there is of them.

    Args:
        planned: the runs of a study.
        retry: those that are tried again.
    """
    from prx_scale.attempts import Attempts
    from prx_scale.runs.info import State
    from prx_scale.runs.record import RunRecord

    for each in planned:
        if not each.due or each.run.id not in retry.jobs or not each.folder.exists():
            continue
        if retry.fresh:
            _set_aside(each.folder)
        else:
            Attempts(each.folder).retry()
            record = RunRecord(each.folder)
            info = record.read()
            if info is not None and info.state is State.FAILED:
                record.update(state=State.INTERRUPTED, reason="to be tried again")
