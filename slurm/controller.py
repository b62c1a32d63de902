"""The one place that calls SLURM's commands."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prx_scale.errors import InputError
from slurm import jobstatus
from slurm.jobstatus import Accounts, JobStatus, Phase

__all__ = ["JobStatus", "Phase", "SiteLimits", "call", "cancel_jobs", "job_statuses", "site_limits", "test_only"]

TIMEOUT_SECONDS = 30.0
"""A controller that is down lets its commands wait about ten seconds; a busy one may take longer."""
WHICH_CLUSTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
"""Variables that say which cluster; all other SLURM_ ones are of the job that we may be in, or of somebody's taste."""
SETTINGS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
"""Moments in seconds, and lists of pending tasks in full: by default they end after 64 characters."""


def environment() -> dict[str, str]:
    """Variables for SLURM's commands: without those of a job that this process may be in."""
    foreign = ("SLURM_", "SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SLURMD_", "SRUN_")
    kept = {name: value for name, value in os.environ.items() if name in WHICH_CLUSTER or not name.startswith(foreign)}
    return {**kept, **SETTINGS}


def is_available() -> bool:
    """Whether this machine can submit to SLURM."""
    return shutil.which("sbatch") is not None


def call(*words: str, timeout: float = TIMEOUT_SECONDS) -> str:
    """What one of SLURM's commands prints.

    Args:
        *words: of the command.
        timeout: seconds.

    Raises:
        InputError: it is missing, does not answer in time, or fails; with what it said.
    """
    return _run(words, timeout).stdout


def _run(words: Sequence[str], timeout: float = TIMEOUT_SECONDS) -> subprocess.CompletedProcess[str]:
    shown = " ".join(words)
    shown = shown if len(shown) <= 80 else words[0]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment(), check=False
        )
    except FileNotFoundError as error:
        raise InputError(f"{words[0]}: no such command; SLURM is not installed here, or not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{shown}: no answer in {timeout:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise InputError(f"{shown}: {'; '.join(line.strip() for line in said[-4:])}")
    return done


def job_statuses(jobs: Sequence[str]) -> dict[str, JobStatus]:
    """How jobs stand, with one call of squeue and one of sacct, however many they are.

    Where there is no accounting, a job that has left the queue is UNKNOWN, and its reason says why.

    Args:
        jobs: 123, or 123_4 in an array.

    Raises:
        InputError: the controller does not answer.
    """
    if not jobs:
        return {}
    arrays = ",".join(dict.fromkeys(map(jobstatus.array_of, jobs)))
    with ThreadPoolExecutor(max_workers=1) as beside:
        accounts = beside.submit(_accounts, arrays)
        queue = _queue(arrays)
        return jobstatus.combine(jobs, queue, accounts.result())


def _queue(arrays: str) -> dict[str, JobStatus]:
    columns = ",".join(f"{name}:{width}{jobstatus.SEPARATOR}" for name, width in jobstatus.SQUEUE_FIELDS)
    try:
        # Those that ended some minutes ago are still there, and known better than in accounting, which comes after.
        # Each task on a line of its own: a requeued task that waits with its array shows no restarts otherwise.
        shape = ("--noheader", "--array", "--states=all", f"--Format={columns}")
        return jobstatus.parse_squeue(call("squeue", *shape, "-j", arrays))
    except InputError as error:
        if jobstatus.NAMES_NO_JOB in str(error):
            return {}
        raise


def _accounts(arrays: str) -> Accounts:
    columns = ",".join(jobstatus.SACCT_FIELDS)
    shape = ("--noheader", "--parsable2", f"--delimiter={jobstatus.SEPARATOR}", f"--format={columns}")
    try:
        text = call("sacct", "--allusers", "--allocations", "--duplicates", *shape, "-j", arrays)
    except InputError as error:
        return Accounts(jobs={}, complaint=str(error).split(": ", 1)[-1])
    return Accounts(jobs=jobstatus.parse_sacct(text))


def cancel_jobs(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended already are passed over.

    Args:
        jobs: 123, or 123_4 in an array.

    Raises:
        InputError: scancel says no.
    """
    ids = jobstatus.compress(jobs)
    if ids:
        call("scancel", "--quiet", *ids)


def test_only(script: Path) -> str:
    """What sbatch says of a script that it does not submit: when and where it would start.

    Args:
        script: with its #SBATCH lines.

    Raises:
        InputError: sbatch would refuse it; with its words.
    """
    done = _run(("sbatch", "--test-only", str(script)))
    return "\n".join(line.removeprefix("sbatch: ") for line in (done.stdout + done.stderr).splitlines() if line)


@dataclass(frozen=True, kw_only=True)
class SiteLimits:
    """How much a user may submit."""

    max_array_size: int
    """One more than the highest task id of an array."""
    max_job_count: int
    """Jobs of all users that the controller keeps, tasks of arrays counted singly."""
    max_submit: int | None = None
    """Jobs of this user, waiting and running; None where there is no limit."""
    submitted_now: int = 0
    """Jobs that this user has, tasks of arrays counted singly."""

    @property
    def room(self) -> int | None:
        """Jobs that this user may still submit; None for any number."""
        return None if self.max_submit is None else max(0, self.max_submit - self.submitted_now)


def site_limits(options: Mapping[str, str | bool] | None = None) -> SiteLimits:
    """How much this user may submit.

    Args:
        options: of sbatch; `account`, `qos` and `partition` decide which limits count.

    Raises:
        InputError: the controller does not answer.
    """
    chosen = {key: value for key, value in (options or {}).items() if isinstance(value, str)}
    config = _config(call("scontrol", "show", "config"))
    user = getpass.getuser()
    enforced = "limits" in config.get("AccountingStorageEnforce", "")
    return SiteLimits(
        max_array_size=int(config["MaxArraySize"]),
        max_job_count=int(config["MaxJobCount"]),
        max_submit=_max_submit(user, chosen) if enforced else None,
        submitted_now=len(call("squeue", "--noheader", "--array", "--user", user, "--format=%i").split()),
    )


def _config(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _max_submit(user: str, chosen: Mapping[str, str]) -> int | None:
    shape = ("--noheader", "--parsable2", "show")
    columns = "format=Partition,DefaultQOS,MaxSubmitJobs,GrpSubmitJobs"
    try:
        default = call("sacctmgr", *shape, "user", user, "format=DefaultAccount").strip()
        own = f"account={chosen.get('account', default)}"
        associations = call("sacctmgr", *shape, "associations", "where", f"user={user}", own, columns)
        qos = call("sacctmgr", *shape, "qos", "format=Name,MaxSubmitJobsPerUser,MaxSubmitJobsPerAccount,GrpSubmitJobs")
    except InputError:  # accounting is down: the controller goes on without, and refuses what is too much
        return None
    return least_submit(associations, qos, chosen)


def least_submit(associations: str, qos: str, chosen: Mapping[str, str]) -> int | None:
    """The least limit of submitted jobs that holds for a user.

    Args:
        associations: rows of partition, default QOS and limits.
        qos: rows of name and limits.
        chosen: options of sbatch.
    """
    limits: list[int] = []
    names = {chosen["qos"]} if "qos" in chosen else set[str]()
    for row in (line.split("|") for line in associations.splitlines()):
        if row[0] in ("", chosen.get("partition", row[0])):
            limits += [int(cell) for cell in row[2:] if cell.isdigit()]
            names |= set[str]() if "qos" in chosen else {row[1] or "normal"}
    for row in (line.split("|") for line in qos.splitlines()):
        if row[0] in names:
            limits += [int(cell) for cell in row[1:] if cell.isdigit()]
    return min(limits, default=None)
