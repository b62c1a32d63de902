"""How the runs of a study stand: what their records say, and their jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prx_scale.attempts import Attempts, Start
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.locks import is_held
from prx_scale.runs import load_runs
from prx_scale.runs.info import RunInfo, State
from prx_scale.study import load as load_study
from slurm.controller import is_available
from slurm.following import Following, following
from slurm.jobstatus import Phase
from slurm.ledger import Executor, JobRecord, Kind, Ledger, read_ledger
from slurm.plan import Jobs, jobs_of
from slurm.processes import parse_process, works_on
from slurm.standing import ACTIVE, standing

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
    """As recorded; "pending" before a launch, "waiting" for a job that does, "cancelled", or "killed" where the record
    says running but nothing is at work."""
    step: int
    steps: int
    loss: float | None
    samples_per_second: float | None
    mfu: float | None
    restarts: int
    """How often it was started again, whoever did it."""
    seconds_left: float | None
    """Of training, at its present speed."""
    limit_seconds_left: int | None
    """Of the time limit of its job's present start."""
    where: str
    """Nodes, or the host."""
    job: str | None
    """Its last one: SLURM's id, or host:pid."""
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """The line as JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """How a study stands."""

    runs: tuple[RunStatus, ...]
    following: tuple[Following, ...] = ()
    """Jobs that come after training, by kind."""
    jobs: Jobs = field(default_factory=lambda: Jobs(ledger=Ledger(study=Path())))
    warning: str | None = None
    """Why it may not be as it says: SLURM was not asked, or did not answer."""

    @property
    def active(self) -> bool:
        """Whether anything is at work or waits to be."""
        return any(run.state in ACTIVE for run in self.runs) or any(each.active for each in self.following)


def study_status(study_folder: Path, *, ask_slurm: bool = True) -> StudyStatus:
    """How a study stands, runs not started yet included where the folder has the study file.

    Args:
        study_folder: has study.toml, runs/<run>/run.json or both.
        ask_slurm: whether to ask SLURM about the study's jobs, where it has any.

    Raises:
        InputError: there are no runs and no study file, or one of them is damaged.
    """
    jobs, warning = _jobs(study_folder, ask_slurm)
    infos = {info.run: info for info in load_runs(study_folder)} if _any_run(study_folder) else {}
    if not (study_folder / "study.toml").exists():
        infos = infos or {info.run: info for info in load_runs(study_folder)}
        planned: Sequence[RunConfig] = ()
    else:
        planned = load_study(study_folder).runs
    started = [_of_record(info, jobs, asked=warning is None) for info in infos.values()]
    others = [_of_plan(run, jobs) for run in planned if run.id not in infos]
    return StudyStatus(runs=(*started, *others), following=following(jobs, study_folder), jobs=jobs, warning=warning)


def _jobs(study: Path, ask: bool) -> tuple[Jobs, str | None]:
    ledger = read_ledger(study)
    if not ledger.on_slurm():
        return Jobs(ledger=ledger), None
    if not ask:
        return Jobs(ledger=ledger), "SLURM was not asked: runs stand as recorded"
    if not is_available():
        return Jobs(ledger=ledger), "no SLURM on this machine: runs stand as recorded"
    try:
        return jobs_of(study), None
    except InputError as error:
        return Jobs(ledger=ledger), f"{error}; runs stand as recorded"


def _any_run(study_folder: Path) -> bool:
    return any(study_folder.glob("runs/*/run.json"))


def _of_plan(run: RunConfig, jobs: Jobs) -> RunStatus:
    """A run that has no record yet."""
    record = jobs.ledger.latest(Kind.TRAIN, run.id)
    job = jobs.statuses.get(record.job) if record else None
    cancelled = record is not None and record.job in jobs.ledger.cancelled
    stands = standing(None, None, job, cancelled=cancelled, held=_alive_here(record))
    return RunStatus(
        run=run.id,
        variant=run.variant,
        depth=run.model.depth,
        seed=run.training.seed,
        params=None,
        state=stands.state,
        step=0,
        steps=run.training.steps,
        loss=None,
        samples_per_second=None,
        mfu=None,
        restarts=job.restarts if job else 0,
        seconds_left=None,
        limit_seconds_left=job.left_seconds if job and job.phase is Phase.RUNNING else None,
        where=job.nodes if job else _host(record),
        job=record.job if record else None,
        reason=stands.reason,
    )


def _of_record(info: RunInfo, jobs: Jobs, *, asked: bool) -> RunStatus:
    record = jobs.ledger.latest(Kind.TRAIN, info.run)
    job = jobs.statuses.get(record.job) if record else None
    starts = [row for row in Attempts(info.folder).rows() if isinstance(row, Start)]
    # The lock of a process on another node is not known everywhere: where SLURM was not asked, the record counts.
    unasked = record is not None and record.executor is Executor.SLURM and not asked
    running = info.state is State.RUNNING
    held = job is None and ((running and (unasked or is_held(info.folder))) or _alive_here(record))
    cancelled = record is not None and record.job in jobs.ledger.cancelled
    stands = standing(info.state, info.reason, job, cancelled=cancelled, held=held)
    last = last_row(info.folder / "train.jsonl") or {}
    step = max(info.step, int(last.get("step", 0)))
    at_work = stands.state == State.RUNNING.value
    speed = last.get("samples_per_second")
    left = (info.steps - step) * info.config["training"]["batch"] / float(speed) if at_work and speed else None
    return RunStatus(
        run=info.run,
        variant=info.variant,
        depth=info.depth,
        seed=info.seed,
        params=info.parameters.backbone,
        state=stands.state,
        step=step,
        steps=info.steps,
        loss=last.get("loss"),
        samples_per_second=speed,
        mfu=last.get("mfu"),
        restarts=max(job.restarts if job else 0, len(starts) - 1),
        seconds_left=left,
        limit_seconds_left=job.left_seconds if job and at_work else None,
        where=job.nodes if job else (_hosts(starts) or _host(record)),
        job=record.job if record else None,
        reason=stands.reason,
    )


def _alive_here(record: JobRecord | None) -> bool:
    """Whether a run's last process is one of this machine that is still there."""
    process = parse_process(record.job) if record and record.executor is Executor.LOCAL else None
    return process is not None and process.here and works_on(process, record.run if record and record.run else "")


def _host(record: JobRecord | None) -> str:
    process = parse_process(record.job) if record and record.executor is Executor.LOCAL else None
    return process.host if process else ""


def _hosts(starts: Sequence[Start]) -> str:
    return ",".join(starts[-1].hosts) if starts else ""


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
