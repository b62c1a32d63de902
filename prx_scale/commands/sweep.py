"""`prx-scale sweep`: all runs of a study that are not done yet."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prx_scale.commands import exits
from prx_scale.commands.stages_output import tell_stages
from prx_scale.commands.starting import tell_starts
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from prx_scale.study import Study
    from slurm.ledger import Executor
    from slurm.local import Job, Outcome
    from slurm.plan import Again, Planned

_WIDE = 100
"""Columns from which on all numbers of a run have room."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Train every run of a study that is not done yet; launching again adds only what is missing.

    On this machine, several at a time: Ctrl-C lets the running ones save their state; the same command goes on. On
    SLURM, as arrays of jobs that survive preemption, time limits and dead nodes, each followed by its evaluation, all
    of them by the report. A failed run does not stop the others. Exit code: 0 all done, or submitted; 1 a run failed;
    2 bad input; 130 interrupted.

    Example: prx-scale sweep study.toml --dry-run

    Example: prx-scale sweep study.toml --workers 2

    Example: prx-scale sweep study.toml --executor slurm --dry-run=scheduler
    """

    study: tyro.conf.Positional[Path]
    """A study file, or a study folder that has a study.toml."""
    executor: Literal["local", "slurm"] = "local"
    """Where the runs go: processes of this machine, or a SLURM cluster."""
    dry_run: Literal["jobs", "scheduler"] | None = None
    """Only print what would be run, with every derived number and, on SLURM, every job; --dry-run=scheduler also asks
    SLURM whether it would take them."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """On this machine, runs side by side; by default as many as there are cores."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Study folder to write to; by default that of study.toml, or one beside the file with the study's name."""

    def run(self) -> int:
        """Launch what is missing.

        Raises:
            InputError: the study cannot be right, or SLURM refuses it.
        """
        from prx_scale import study
        from slurm.ledger import Executor

        loaded = study.load(self.study, self.out)
        return launch_study(loaded, executor=Executor(self.executor), dry_run=self.dry_run, workers=self.workers)


def launch_study(
    loaded: Study,
    *,
    executor: Executor,
    dry_run: Literal["jobs", "scheduler"] | None,
    workers: int | None,
    retry: Again | None = None,
) -> int:
    """Launch what a study still needs.

    Args:
        loaded: the study.
        executor: where to.
        dry_run: only print what would be done; "scheduler" also asks SLURM.
        workers: runs side by side on this machine.
        retry: failed runs that are tried again.

    Returns:
        The exit code.

    Raises:
        InputError: an option makes no sense, or the launch is refused.
    """
    from prx_scale.commands.sweep_slurm import launch_on_slurm
    from prx_scale.commands.text import plain_console
    from slurm.plan import NO_RETRY

    console, again = plain_console(), retry or NO_RETRY
    if executor.value == "slurm":
        if workers is not None:
            raise InputError("--workers: is for this machine; [slurm] array_parallelism bounds the jobs at work")
        tell_starts(loaded.runs, loaded.file, loaded.folder, console)
        if dry_run:
            tell_stages(loaded.runs, console)
        return launch_on_slurm(loaded, console, retry=again, dry_run=dry_run)
    if dry_run == "scheduler":
        raise InputError("--dry-run=scheduler: asks SLURM, so it needs --executor slurm")
    if workers is not None and workers < 1:
        raise InputError(f"--workers: {workers} is too small; at least 1")
    return _launch_here(loaded, console, dry_run=dry_run is not None, workers=workers, retry=again)


def _launch_here(loaded: Study, console: Console, *, dry_run: bool, workers: int | None, retry: Again) -> int:
    from prx_scale import study
    from prx_scale.commands.retry import reset
    from prx_scale.launchchecks import check_launch
    from slurm.plan import jobs_of, plan

    planned = plan(loaded.runs, loaded.folder, jobs_of(loaded.folder), retry)
    console.print(plan_table(planned, console.width))
    check_launch((each.run for each in planned if each.due), str(loaded.file))
    tell_starts(loaded.runs, loaded.file, loaded.folder, console)
    if dry_run:
        tell_stages(loaded.runs, console)
        return exits.DONE
    study.keep_copy(loaded)
    reset(planned, retry)
    code = launch(planned, loaded.folder, workers, console)
    if code == exits.DONE:
        done = len(planned) - sum(each.action.value.startswith("leave") for each in planned)
        told = f"{done} of {len(planned)} runs are done; prx-scale report {loaded.folder}"
        console.print(told, soft_wrap=True, markup=False)
    return code


def plan_table(planned: Sequence[Planned], width: int) -> Table:
    """What a launch does with each run, and the numbers that follow from its depth.

    Args:
        planned: the runs.
        width: columns that there are; where they are few, the first numbers to go are those that others give.
    """
    from rich.table import Table

    from prx_scale.commands.text import number
    from prx_scale.models.build import model_shape
    from prx_scale.models.sizes import parameters
    from prx_scale.turns import Turns

    table = Table(box=None, pad_edge=False)
    headings = ("run", "depth", "hidden", "params", "embedding", "FLOPs/image", "steps", "images", "FLOPs", "launch")
    shown = [heading for heading in headings if width >= _WIDE or heading not in ("embedding", "FLOPs/image", "images")]
    for heading in shown:
        table.add_column(
            heading, justify="left" if heading in ("run", "launch") else "right", no_wrap=heading != "launch"
        )
    for each in planned:
        run, shape = each.run, model_shape(each.run)
        counts, totals = parameters(shape), Turns(run).totals(run.training.steps)
        sizes = (shape.depth, shape.hidden, counts.backbone, counts.embedding, totals.flops // totals.samples)
        work = (run.training.steps, totals.samples, totals.flops)
        cells = (run.id, *map(number, (*sizes, *work)), each.action.value)
        table.add_row(*(cell for heading, cell in zip(headings, cells, strict=True) if heading in shown))
    return table


def launch(planned: Sequence[Planned], study_folder: Path, workers: int | None, console: Console) -> int:
    """Train what is due, the most expensive first; say what failed.

    Args:
        planned: the runs.
        study_folder: has the study.toml.
        workers: runs side by side, None for as many as there are cores.
        console: for progress and failures.

    Returns:
        0 all done, 1 a run failed, 130 interrupted.
    """
    from prx_scale.commands.children import train_job
    from prx_scale.commands.progress import many_runs
    from slurm.local import Interrupted, room, run_jobs

    due = sorted((each.run for each in planned if each.due), key=lambda run: -run.model.depth * run.training.steps)
    jobs = [train_job(study_folder, run.id) for run in due]
    try:
        with many_runs(due, study_folder, console) as watcher:
            note = partial(_note_started, study_folder)
            outcomes = run_jobs(jobs, room(len(jobs), workers), watcher.tick, note) if jobs else []
            watcher.tick()
    except Interrupted:
        console.print("interrupted: the running ones have saved their state, and the same command goes on from there")
        return exits.INTERRUPTED
    failed = [outcome for outcome in outcomes if outcome.exit_code != 0]
    for outcome in failed:
        _say_failure(outcome, study_folder, console)
    old = [each for each in planned if each.action.value.startswith("skip: failed")]
    for each in old:
        console.print(f"{each.run.id} had failed before: {each.reason}; prx-scale retry {study_folder} tries it again")
    return exits.FAILED if failed or old else exits.DONE


def _note_started(study_folder: Path, job: Job, pid: int) -> None:
    """Put a process on the study's list of jobs."""
    from slurm.ledger import Executor, JobRecord, Kind, note_jobs

    record = JobRecord(
        job=f"{socket.gethostname()}:{pid}",
        kind=Kind.TRAIN,
        executor=Executor.LOCAL,
        run=job.name,
        logs=str(job.output.relative_to(study_folder)),
    )
    note_jobs(study_folder, [record])


def _say_failure(outcome: Outcome, study_folder: Path, console: Console) -> None:
    from prx_scale.runs.info import State
    from prx_scale.runs.record import RunRecord

    info = RunRecord(study_folder / "runs" / outcome.job.name).read()
    if info is not None and info.state is State.FAILED:
        console.print(f"{outcome.job.name} failed: {info.reason}")
    else:
        console.print(f"{outcome.job.name} ended with exit code {outcome.exit_code}; the end of {outcome.job.output}:")
        console.print(outcome.last_lines, markup=False)
