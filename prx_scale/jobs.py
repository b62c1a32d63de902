"""What a study's jobs do on a cluster: the callables that a job loads by name, with plain values, and calls.

Every process of a job calls the same. Nothing of it is a live object, so a job that starts again days later loads the
same words, out of the snapshot of the code that it was submitted with.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from prx_scale.allocation import Allocation, SlurmSettings
from prx_scale.runs.clock import now


@dataclass(frozen=True, kw_only=True)
class TrainCall:
    """Train a run over all processes of the job, or go on with it."""

    study: str
    """The study folder."""
    run: str
    minutes: int
    """Time limit of one start."""
    signal_seconds: int
    max_restarts: int
    max_fruitless: int

    def __call__(self) -> None:
        """Train; ends the process with the exit code of `prx-scale train` unless all is done.

        Raises:
            SystemExit: the run is not done.
        """
        from prx_scale import stopping

        stopping.listen()  # in place of submitit's own handler
        started = time.time()
        _announce()
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        from prx_scale.attempts import Job
        from prx_scale.commands.train import train_in_job

        job = Job(
            id=job_id(),
            restart=restart_count(),
            limit_seconds=self.minutes * 60,
            signal_seconds=self.signal_seconds,
            max_restarts=self.max_restarts,
            max_fruitless=self.max_fruitless,
            started=started,
            hosts=tuple(JobEnvironment().hostnames),
        )
        _end(train_in_job(Path(self.study), self.run, job))


@dataclass(frozen=True, kw_only=True)
class VerbCall:
    """A verb of the command line."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        """Run it; ends the process with its exit code unless that is 0.

        Raises:
            SystemExit: the verb did not end with 0.
        """
        _announce()
        from prx_scale import cli

        _end(cli.run(self.words))


@dataclass(frozen=True, kw_only=True)
class StudyCalls:
    """The callables of a study's jobs."""

    study: Path
    """The study folder, absolute."""
    settings: SlurmSettings

    def train(self, run: str, allocation: Allocation) -> TrainCall:
        """Train a run.

        Args:
            run: its id.
            allocation: of its job.
        """
        base = self.settings.base
        return TrainCall(
            study=str(self.study),
            run=run,
            minutes=allocation.minutes,
            signal_seconds=base.signal_seconds,
            max_restarts=base.max_restarts,
            max_fruitless=base.max_fruitless,
        )

    def evaluate(self, run: str) -> VerbCall:
        """Score the checkpoints of a run.

        Args:
            run: its id.
        """
        return VerbCall(words=("evaluate", str(self.study), "--run", run))

    def report(self) -> VerbCall:
        """Fit and write the report."""
        return VerbCall(words=("report", str(self.study)))

    def launch(self) -> VerbCall:
        """Launch what did not fit under the cluster's limit of jobs."""
        return VerbCall(words=("sweep", str(self.study), "--executor", "slurm"))


def job_id() -> str:
    """SLURM's id of the job that this process is part of, 123 or 123_4 in an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


def restart_count() -> int:
    """How often SLURM has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _announce() -> None:
    """Name this start in both logs: a requeued job keeps its id and goes on writing to the same files."""
    restart = f"restart {restart_count()}" if restart_count() else "first start"
    node, rank = os.environ.get("SLURMD_NODENAME", ""), os.environ.get("SLURM_PROCID", "0")
    begun = now()
    for stream in (sys.stdout, sys.stderr):
        print(f"=== job {job_id()}, {restart}, rank {rank} on {node}, {begun}", file=stream, flush=True)


def _end(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code:
        sys.exit(code)
