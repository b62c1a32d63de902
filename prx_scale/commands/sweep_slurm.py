"""`prx-scale sweep --executor slurm` and what `retry` shares with it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prx_scale.commands import exits
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from prx_scale.study import Study
    from slurm.executor import Place
    from slurm.launching import Launch
    from slurm.ledger import JobRecord
    from slurm.plan import Again, Jobs, Planned

DryRun = Literal["jobs", "scheduler"]
Count = Callable[[Sequence["JobRecord"]], None]


def launch_on_slurm(study: Study, console: Console, *, retry: Again, dry_run: DryRun | None) -> int:
    """Submit what a study still needs.

    Args:
        study: the study.
        console: where it is told.
        retry: failed runs that are tried again.
        dry_run: only print what would be submitted; "scheduler" also asks SLURM whether it would take it.

    Returns:
        The exit code: 0, also where nothing is due.

    Raises:
        InputError: the study does not suit the cluster, or SLURM refuses a job.
    """
    from prx_scale.commands.retry import reset
    from slurm.controller import is_available
    from slurm.launchlock import only_launcher

    if not is_available() and dry_run != "jobs":
        raise InputError("--executor slurm: no sbatch on this machine; run it where you submit jobs, as a login node")
    if dry_run:
        return _show(study, console, retry, dry_run)
    with only_launcher(study.folder, lambda text: console.print(text, soft_wrap=True)) as keep:
        from prx_scale import study as studies

        studies.keep_copy(study)
        jobs, planned, launch = _decide(study, console, retry, asks=True, keep=keep)
        reset(planned, retry)
        if not launch.jobs:
            return _nothing(planned, study.folder, console)
        from slurm.launching import commit
        from slurm.snapshot import describe, take_snapshot

        keep()
        snapshot = take_snapshot(study.folder.resolve())
        console.print(describe(snapshot), soft_wrap=True)
        with _counted(launch.jobs, console) as count:
            done = commit(launch, _place(study, snapshot.folder), jobs, keep, count)
    _tell(launch, done, study.folder, console)
    _old_failures(planned, study.folder, console)
    return exits.DONE


def _answers(console: Console, *, needed: bool) -> bool:
    """Whether SLURM can be asked about jobs and limits; a dry run goes without where it cannot."""
    from slurm.controller import is_available, site_limits

    try:
        if is_available():
            site_limits()
            return True
    except InputError as error:
        if needed:
            raise
        console.print(str(error), soft_wrap=True, markup=False)
    console.print("SLURM does not answer here: shown without its limits and its jobs", soft_wrap=True)
    return False


def _decide(
    study: Study, console: Console, retry: Again, *, asks: bool, keep: Callable[[], None] = lambda: None
) -> tuple[Jobs, list[Planned], Launch]:
    from prx_scale.commands.sizing import sizes
    from prx_scale.commands.sweep import plan_table
    from prx_scale.jobs import StudyCalls
    from prx_scale.launchchecks import check_launch
    from slurm.controller import SiteLimits, site_limits
    from slurm.launching import decide, unscored
    from slurm.ledger import Ledger
    from slurm.plan import Jobs, jobs_of, plan

    folder = study.folder.resolve()
    jobs = jobs_of(folder) if asks else Jobs(ledger=Ledger(study=folder))
    planned = plan(study.runs, folder, jobs, retry)
    console.print(plan_table(planned, console.width))
    due = [each.run for each in planned if each.due]
    check_launch(due, str(study.file))
    _, options = study.slurm.of_depth(0)
    limits = site_limits(dict(options)) if asks else SiteLimits(max_array_size=1001, max_job_count=10_000)
    calls = StudyCalls(study=folder, settings=study.slurm)
    sized = sizes(due, study.slurm, console, keep)
    return jobs, planned, decide(study, planned, unscored(planned), jobs, calls, sized, limits)


def _place(study: Study, code: Path | None) -> Place:
    from slurm.executor import Place

    base, folder = study.slurm.base, study.folder.resolve()
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Place(
        study=folder,
        folder=folder / "jobs" / stamp,
        code=code,
        python=base.python,
        array_parallelism=base.array_parallelism,
        signal_seconds=base.signal_seconds,
    )


def _show(study: Study, console: Console, retry: Again, dry_run: DryRun) -> int:
    from prx_scale.commands.sweep_output import print_launch, scheduler_opinions
    from slurm.snapshot import planned_folder

    _, planned, launch = _decide(study, console, retry, asks=_answers(console, needed=dry_run == "scheduler"))
    place = _place(study, planned_folder(study.folder.resolve()))
    print_launch(launch, place, study.slurm.base.max_restarts, console)
    _old_failures(planned, study.folder, console)
    return scheduler_opinions(launch, place, console) if dry_run == "scheduler" else exits.DONE


@contextmanager
def _counted(total: int, console: Console) -> Generator[Count]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("submitting"), BarColumn(), MofNCompleteColumn(), TextColumn("jobs"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda records: bar.advance(task, len(records))


def _nothing(planned: Sequence[Planned], folder: Path, console: Console) -> int:
    console.print("nothing to submit")
    _old_failures(planned, folder, console)
    return exits.DONE


def _tell(launch: Launch, done: Sequence[JobRecord], folder: Path, console: Console) -> None:
    from slurm.ledger import Kind

    for kind in Kind:
        jobs = list(dict.fromkeys(record.array for record in done if record.kind is kind))
        count = sum(1 for record in done if record.kind is kind)
        if jobs:
            shown = ", ".join(jobs if len(jobs) <= 6 else [*jobs[:3], "...", jobs[-1]])
            console.print(f"{kind}: {count} submitted, job{'s' if len(jobs) > 1 else ''} {shown}", soft_wrap=True)
    if launch.later:
        console.print(
            f"{len(launch.later)} runs wait for the cluster's limit of jobs; a job launches them when these have ended",
            soft_wrap=True,
        )
    console.print(f"watch: prx-scale status {folder} --watch", soft_wrap=True)


def _old_failures(planned: Sequence[Planned], folder: Path, console: Console) -> None:
    failed = [each for each in planned if each.action.value.startswith("skip: failed")]
    for each in failed:
        console.print(f"{each.run.id} had failed before: {each.reason}", soft_wrap=True, markup=False)
    if failed:
        console.print(f"to try them again: prx-scale retry {folder}", soft_wrap=True)
