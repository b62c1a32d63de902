"""The one place that touches submitit: batch scripts, submission, and what happens when a job's processes end.

A job's processes say by their exit code whether the job should start again (`AGAIN`, a signal that was obeyed, or a
kill), and the batch script, which runs outside any container, asks SLURM for it. submitit's own signal handler is not
used: it saves on rank 0 alone, and takes a job with a limit under ten minutes for timed out whenever it is preempted.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from submitit import helpers
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from prx_scale.allocation import Allocation
from prx_scale.errors import InputError
from slurm.controller import WHICH_CLUSTER
from slurm.ledger import Executor, JobRecord, Kind

Call = Callable[[], None]
"""What a process of a job does; is pickled, so it must be importable by name and hold plain values."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One job: what it does, for which run."""

    run: str | None
    call: Call


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Jobs of one kind that ask for the same: an array, where there are several."""

    kind: Kind
    name: str
    """The jobs' name in SLURM's queue."""
    allocation: Allocation
    works: tuple[Work, ...]
    after: str = ""
    """SLURM's dependency, as afterany:123."""
    max_restarts: int = 0
    """How often SLURM is asked for another start where the processes' exit code says so."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study's jobs live, and with what they run."""

    study: Path
    """The study folder, absolute."""
    folder: Path
    """Of scripts, pickles and logs of one launch."""
    code: Path | None
    """Snapshot that goes first in PYTHONPATH."""
    python: str = ""
    """Command that starts Python; empty for the interpreter that submits."""
    array_parallelism: int = 16
    signal_seconds: int = 120


def submit(batch: Batch, place: Place) -> list[JobRecord]:
    """Submit a batch.

    Args:
        batch: the jobs.
        place: where they live.

    Returns:
        A record of each, in order, not written yet.

    Raises:
        InputError: SLURM refused.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    executor = _executor(batch, place)
    try:
        with _outside_any_job(), executor.batch():
            jobs = [executor.submit(work.call) for work in batch.works]
    except (FailedJobError, FailedSubmissionError) as error:
        said = " ".join(str(error).split()).replace("sbatch: error: ", "") or "no reason given"
        raise InputError(f"sbatch refused {len(batch.works)} jobs {batch.name}: {said}") from error
    pairs = zip(batch.works, jobs, strict=True)
    return [_record(batch, place, work, str(job.job_id)) for work, job in pairs]


@contextmanager
def _outside_any_job() -> Generator[None]:
    """Hide the variables of a job that this process may itself be part of, not those that say which cluster."""
    which = {name: os.environ[name] for name in WHICH_CLUSTER if name in os.environ}
    with helpers.clean_env(), helpers.environment_variables(**which):
        yield


def _record(batch: Batch, place: Place, work: Work, job: str) -> JobRecord:
    allocation = batch.allocation
    return JobRecord(
        job=job,
        kind=batch.kind,
        executor=Executor.SLURM,
        run=work.run,
        logs=str((place.folder / job).relative_to(place.study)),
        nodes=allocation.nodes,
        ntasks_per_node=allocation.ntasks_per_node,
        gpus_per_node=allocation.gpus_per_node,
        minutes=allocation.minutes,
        code=str(place.code.relative_to(place.study)) if place.code else None,
    )


def script(batch: Batch, place: Place) -> str:
    """The batch script that `submit` would hand to sbatch.

    Args:
        batch: the jobs.
        place: where they live.
    """
    executor = _executor(batch, place)
    if len(batch.works) > 1:
        executor.parameters["map_count"] = len(batch.works)
    command = executor._submitit_command_str  # pyright: ignore[reportPrivateUsage]
    return executor._make_submission_file_text(command, "")  # pyright: ignore[reportPrivateUsage]


class _Writer(SlurmExecutor):
    """submitit's executor, which can also write scripts where there is no SLURM, for a dry run."""

    @classmethod
    def affinity(cls) -> int:
        """submitit asks whether srun is there; sbatch is asked for when something is submitted."""
        return 2


def _executor(batch: Batch, place: Place) -> SlurmExecutor:
    executor = _Writer(place.folder, max_num_timeout=0, python=place.python or None)
    executor.update_parameters(**_parameters(batch, place))
    return executor


def _parameters(batch: Batch, place: Place) -> dict[str, object]:
    allocation = batch.allocation
    sizes = {
        "gpus_per_node": allocation.gpus_per_node or None,
        "cpus_per_task": allocation.cpus_per_task or None,
        "dependency": batch.after or None,
    }
    return {
        **{name: value for name, value in sizes.items() if value is not None},
        "job_name": batch.name,
        "time": allocation.minutes,
        "nodes": allocation.nodes,
        "ntasks_per_node": allocation.ntasks_per_node,
        "signal_delay_s": place.signal_seconds,
        "array_parallelism": place.array_parallelism,
        "wckey": None,
        "setup": _setup(batch, place),
        "teardown": _teardown(batch),
        "srun_args": _srun_arguments(batch),
        "additional_parameters": {"requeue": True, "chdir": str(place.study), **dict(allocation.options)},
    }


def _setup(batch: Batch, place: Place) -> list[str]:
    lines = list(batch.allocation.setup)
    # What the user loads may set these: ours come after.
    if place.code:
        lines.append(f'export PYTHONPATH={shlex.quote(str(place.code))}"${{PYTHONPATH:+:$PYTHONPATH}}"')
    lines.append('export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" PYTHONUNBUFFERED=1')
    return lines


def _srun_arguments(batch: Batch) -> list[str]:
    # Those that a dead process leaves behind end within seconds by themselves, after they have written down who died;
    # killed at once they could not. What hangs is killed after two minutes.
    own = ["--kill-on-bad-exit=0", "--wait=120"]
    if batch.allocation.cpus_per_task:  # since 22.05 srun no longer takes it over from sbatch
        own.append(f"--cpus-per-task={batch.allocation.cpus_per_task}")
    return [*own, *batch.allocation.srun_args]


def _teardown(batch: Batch) -> list[str]:
    lines = ["code=$?"]
    if batch.max_restarts:
        # What dies before it can count its starts is counted here.
        lines += [
            "# 75: worth another try; 130: asked to stop and saved; from 128 on: killed by a signal",
            'if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then',
            f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {batch.max_restarts} ]; then',
            '    echo "prx-scale: exit code $code, asking SLURM to start job $SLURM_JOB_ID again"',
            '    scontrol requeue "$SLURM_JOB_ID" && sleep 300',
            "  else",
            f'    echo "prx-scale: exit code $code after {batch.max_restarts} restarts, not started again"',
            "  fi",
            "fi",
        ]
    return [*lines, 'exit "$code"']
