"""What cancelling a study, or some of its runs, ends: jobs on SLURM and processes of this machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from prx_scale.errors import InputError, nearest
from prx_scale.locks import is_held
from slurm.controller import cancel_jobs
from slurm.jobstatus import Phase
from slurm.ledger import Executor, JobRecord, Kind, note_cancelled
from slurm.plan import Jobs
from slurm.processes import Process, ask_to_end, holder, is_ours, launcher_of, parse_process, works_on


def active_jobs(jobs: Jobs, runs: Collection[str] | None) -> list[JobRecord]:
    """Jobs on SLURM that wait or run.

    Args:
        jobs: of the study.
        runs: only those of these runs, None for all of the study.
    """
    return [
        record
        for record in jobs.ledger.on_slurm()
        if (runs is None or record.run in runs)
        and (status := jobs.statuses.get(record.job))
        and status.phase is not Phase.ENDED
    ]


def cancel_on_slurm(study: Path, records: Sequence[JobRecord]) -> None:
    """Cancel jobs, and put that on the study's list.

    Noted first: whoever looks in between must not take a job that ends of it for one that failed.

    Args:
        study: the study folder.
        records: of the jobs.

    Raises:
        InputError: SLURM refuses.
    """
    ids = [record.job for record in records]
    if ids:
        note_cancelled(study, ids)
        cancel_jobs(ids)


def cancel_here(
    study: Path, jobs: Jobs, runs: Sequence[str], *, all_runs: bool
) -> tuple[list[tuple[str, Process]], list[str]]:
    """Ask the processes of this machine that train runs to save their state and end.

    Args:
        study: the study folder.
        jobs: of the study.
        runs: ids.
        all_runs: also their launchers, which would start the next ones.

    Returns:
        Runs with the process that was asked, and why others were not.
    """
    found = {run: _at_work(study, jobs, run) for run in runs}
    notes = [note for _, note in found.values() if note]
    # All are looked up before the first is asked: a launcher ends its other processes by itself.
    targets = {run: (all_runs and launcher_of(process)) or process for run, (process, _) in found.items() if process}
    refused = {target for target in set(targets.values()) if not ask_to_end(target)}
    asked = [(run, target) for run, target in targets.items() if target not in refused]
    notes += [f"{run}: {target} could not be signalled" for run, target in targets.items() if target in refused]
    noted = [record.job for run, _ in asked if (record := _local_record(jobs, run))]
    if noted:
        note_cancelled(study, noted)
    return asked, notes


def _local_record(jobs: Jobs, run: str) -> JobRecord | None:
    record = jobs.ledger.latest(Kind.TRAIN, run)
    return record if record and record.executor is Executor.LOCAL else None


def _at_work(study: Path, jobs: Jobs, run: str) -> tuple[Process | None, str]:
    """The process that works on a run here; or why nothing can be done about one that may."""
    record = _local_record(jobs, run)
    process = parse_process(record.job) if record else None
    if process and process.here and works_on(process, run):
        return process, ""
    folder = study / "runs" / run
    if not is_held(folder):
        return None, ""
    holding = holder(folder)
    if holding and is_ours(holding):
        return holding, ""
    if holding:
        return None, f"{run}: {holding} holds its lock, and is not prx-scale: left alone"
    if process and not process.here:
        return None, f"{run}: trained by {process}; run `prx-scale cancel` there"
    return None, f"{run}: a process on another machine holds its lock; run `prx-scale cancel` there"


def chosen_runs(words: Sequence[str], known: Sequence[str], where: Path) -> list[str]:
    """The runs that ids, or beginnings of ids, mean.

    Args:
        words: given; none for all runs.
        known: ids that there are.
        where: the study, for the error.

    Raises:
        InputError: a word means no run.
    """
    for word in words:
        if not any(run.startswith(word) for run in known):
            raise InputError(f"{where}: no run '{word}'; {nearest(word, known)}")
    return [run for run in known if not words or run.startswith(tuple(words))]
