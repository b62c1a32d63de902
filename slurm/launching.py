"""A study becomes jobs: arrays of runs, an evaluation after each, one fit and report after all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from prx_scale.allocation import Allocation, Sized, SlurmSettings
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.layout import micro_batch
from prx_scale.runs.files import read_rows
from prx_scale.study import Study
from slurm.controller import Phase, SiteLimits, cancel_jobs
from slurm.executor import Batch, Call, Place, Work, submit
from slurm.ledger import JobRecord, Kind, note_cancelled, note_jobs
from slurm.plan import Action, Jobs, Planned


class Calls(Protocol):
    """What the jobs of a study do: each returns something that can be pickled and called in the job."""

    def train(self, run: str, allocation: Allocation) -> Call:
        """Train a run."""
        ...

    def evaluate(self, run: str) -> Call:
        """Score the checkpoints of a run."""
        ...

    def report(self) -> Call:
        """Fit and write the report."""
        ...

    def launch(self) -> Call:
        """Launch the study again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a launch submits, decided but not done."""

    name: str
    """Beginning of the jobs' names."""
    training: tuple[Batch, ...]
    evaluations: tuple[Work, ...]
    """One for each run that trains now or is done without its scores."""
    evaluation_allocation: Allocation
    report: Batch | None
    relaunch: Batch | None
    later: tuple[str, ...] = ()
    """Runs that the cluster's limit of jobs leaves for the next launch, which a job does by itself."""

    @property
    def jobs(self) -> int:
        """How many are submitted, each run of an array counted."""
        trained = sum(len(batch.works) for batch in self.training)
        return trained + len(self.evaluations) + sum(1 for batch in (self.report, self.relaunch) if batch)

    @property
    def evaluation_batch(self) -> Batch:
        """All evaluations, as if they were one batch."""
        return Batch(
            kind=Kind.EVALUATE,
            name=f"{self.name}-evaluate",
            allocation=self.evaluation_allocation,
            works=self.evaluations,
        )

    @property
    def runs(self) -> list[str]:
        """Ids of the runs that are trained."""
        return [work.run for batch in self.training for work in batch.works if work.run]


def decide(
    study: Study,
    planned: Sequence[Planned],
    unscored: Sequence[str],
    jobs: Jobs,
    calls: Calls,
    sizes: Mapping[str, Sized],
    limits: SiteLimits,
) -> Launch:
    """What a launch submits.

    Args:
        study: the study.
        planned: its runs and what is due.
        unscored: ids of runs that are done and lack scores.
        jobs: that it has.
        calls: what jobs do.
        sizes: what the planner says, by run id.
        limits: of the cluster.

    Raises:
        InputError: an allocation that a run cannot be spread over, or no room for jobs.
    """
    settings, name = study.slurm, _name(study.study.name)
    due = [each.run for each in sorted(planned, key=_cost) if each.due]
    allocations = {run.id: _allocation(run, settings, sizes.get(run.id)) for run in due}
    evaluates = "evaluate" in settings.base.then
    waiting = [run for run in unscored if evaluates and not jobs.active(Kind.EVALUATE, run)]
    now, later = _fit_in(due, len(waiting), 2 if evaluates else 1, limits, settings)
    evaluations = [*waiting, *(run.id for run in now if evaluates and _scorable(run))]
    return Launch(
        name=name,
        training=_arrays(name, now, allocations, calls, limits, settings.base.max_restarts),
        evaluations=tuple(Work(run=run, call=calls.evaluate(run)) for run in evaluations),
        evaluation_allocation=settings.following("evaluate"),
        report=_alone(Kind.REPORT, name, settings, calls.report()) if _reports(settings, now, evaluations) else None,
        relaunch=_alone(Kind.LAUNCH, name, settings, calls.launch()) if later else None,
        later=tuple(run.id for run in later),
    )


def unscored(planned: Sequence[Planned]) -> list[str]:
    """Ids of runs that are done and lack scores of some of their checkpoints.

    Args:
        planned: the runs of a study.
    """
    done = [each for each in planned if each.action is Action.SKIP_DONE and _scorable(each.run)]
    return [each.run.id for each in done if not set(each.run.evaluated_steps) <= _scored_steps(each.folder)]


def _scored_steps(folder: Path) -> set[int]:
    return {row["step"] for row in read_rows(folder / "evaluation.jsonl")}


def _scorable(run: RunConfig) -> bool:
    """Only shapes have a detector."""
    return run.data.dataset == "shapes"


def _name(study: str) -> str:
    return re.sub(r"[^\w.-]+", "-", study)


def _cost(planned: Planned) -> tuple[float, str]:
    run = planned.run
    return -float(run.model.depth**3 * run.training.steps * run.training.batch), run.id


def _reports(settings: SlurmSettings, now: Sequence[RunConfig], evaluations: Sequence[str]) -> bool:
    return "report" in settings.base.then and bool(now or evaluations)


def _allocation(run: RunConfig, settings: SlurmSettings, sized: Sized | None) -> Allocation:
    allocation = settings.training(run.model.depth, sized)
    try:
        micro_batch(run, allocation.world_size)
    except InputError as error:
        raise InputError(
            f"{settings.where} {run.id}: {allocation.nodes} nodes with {allocation.ntasks_per_node} processes each do "
            f"not suit the run: {error}"
        ) from error
    return allocation


def _fit_in(
    due: Sequence[RunConfig], evaluations: int, jobs_a_run: int, limits: SiteLimits, settings: SlurmSettings
) -> tuple[list[RunConfig], list[RunConfig]]:
    """The runs that can be submitted now and those that must wait: each takes a job, and one more for its scores."""
    if limits.max_submit is None or not due:
        return list(due), []
    free = limits.max_submit - limits.submitted_now - evaluations - 1
    if free >= jobs_a_run * len(due):
        return list(due), []
    room = (free - 1) // jobs_a_run  # one more job launches the rest
    if room < 1:
        raise InputError(
            f"{settings.where}: the cluster allows you {limits.max_submit} jobs and {limits.submitted_now} are "
            f"submitted: no room for a run, {jobs_a_run - 1} evaluation, the report and the next launch; wait for some "
            "to end, or ask for a higher MaxSubmitJobs"
        )
    return list(due[:room]), list(due[room:])


def _arrays(
    name: str,
    due: Sequence[RunConfig],
    allocations: Mapping[str, Allocation],
    calls: Calls,
    limits: SiteLimits,
    max_restarts: int,
) -> tuple[Batch, ...]:
    """One array for each shape of allocation, in parts no longer than the cluster allows."""
    shapes: dict[Allocation, list[RunConfig]] = {}
    for run in due:
        shapes.setdefault(allocations[run.id], []).append(run)
    longest = max(1, limits.max_array_size)
    return tuple(
        Batch(
            kind=Kind.TRAIN,
            name=f"{name}-train",
            allocation=allocation,
            works=tuple(
                Work(run=run.id, call=calls.train(run.id, allocation)) for run in runs[first : first + longest]
            ),
            max_restarts=max_restarts,
        )
        for allocation, runs in shapes.items()
        for first in range(0, len(runs), longest)
    )


def _alone(kind: Kind, name: str, settings: SlurmSettings, call: Call) -> Batch:
    work = Work(run=None, call=call)
    return Batch(kind=kind, name=f"{name}-{kind}", allocation=settings.following("report"), works=(work,))


def commit(
    launch: Launch,
    place: Place,
    jobs: Jobs,
    before: Callable[[], None],
    submitted: Callable[[Sequence[JobRecord]], None],
) -> list[JobRecord]:
    """Submit what was decided; every job is on the study's list as soon as it is submitted.

    Args:
        launch: what to submit.
        place: where the jobs live.
        jobs: that the study has; its waiting report is replaced.
        before: is called ahead of each submission; may raise to end the launch there.
        submitted: is told the jobs of each submission.

    Raises:
        InputError: SLURM refused; what was submitted before that stays and is on the list.
    """
    done: list[JobRecord] = []

    def go(batch: Batch) -> list[JobRecord]:
        before()
        records = submit(batch, place)
        note_jobs(place.study, records)
        done.extend(records)
        submitted(records)
        return records

    trained = [record for batch in launch.training for record in go(batch)]
    of_run = {record.run: record.job for record in trained}
    for work in launch.evaluations:
        go(_evaluation(launch, work, of_run.get(work.run)))
    _replace_following(jobs, place.study)
    ahead = [record.array for record in (*done, *_still_active(jobs))]
    for batch in (launch.report, launch.relaunch):
        if batch:
            go(_after(batch, ahead))
    return done


def _evaluation(launch: Launch, work: Work, trains: str | None) -> Batch:
    return _after(replace(launch.evaluation_batch, works=(work,)), [trains] if trains else [])


def _after(batch: Batch, jobs: Sequence[str]) -> Batch:
    """The batch, once jobs have ended in whatever way."""
    ids = ":".join(dict.fromkeys(jobs))
    return replace(batch, after=f"afterany:{ids}" if ids else "")


def _still_active(jobs: Jobs) -> list[JobRecord]:
    """Jobs of earlier launches that the report waits for too."""
    candidates = [record for record in jobs.ledger.on_slurm() if record.kind in (Kind.TRAIN, Kind.EVALUATE)]
    return [record for record in candidates if jobs.active(record.kind, record.run)]


def _replace_following(jobs: Jobs, study: Path) -> None:
    """Cancel the waiting report and next launch of an earlier launch: those of this one come after all that there is.

    One that is running stays: it may be the one that launches.
    """
    old = [jobs.latest(kind, None) for kind in (Kind.REPORT, Kind.LAUNCH)]
    ids = [found[0].job for found in old if found and found[1].phase is Phase.WAITING]
    if ids:
        cancel_jobs(ids)
        note_cancelled(study, ids)
