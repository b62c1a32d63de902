"""Where the logs of runs and jobs are, and their ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurm.ledger import Executor, JobRecord

Stream = Literal["out", "err"]
TAIL_BYTES = 32_768
"""Of a log that is searched for what went wrong."""


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """A file that a process of a job prints to."""

    path: Path
    rank: int
    stream: Stream
    """`out` where both go to the same file."""


def job_logs(study: Path, job: JobRecord, ranks: Sequence[int] | None = None) -> list[LogFile]:
    """The logs of a job, those that are there.

    Args:
        study: the study folder.
        job: as the study's list has it.
        ranks: of the processes; all by default.
    """
    if job.executor is Executor.LOCAL:
        path = study / job.logs
        return [LogFile(path=path, rank=0, stream="out")] if path.exists() and ranks in (None, [0], (0,)) else []
    found = [
        LogFile(path=path, rank=rank, stream=stream)
        for rank in (range(job.nodes * job.ntasks_per_node) if ranks is None else ranks)
        for stream in ("out", "err")
        if (path := study / f"{job.logs}_{rank}_log.{stream}").exists()
    ]
    return found


def folder_logs(folder: Path, ranks: Sequence[int] | None = None) -> list[LogFile]:
    """The logs in a run's own folder: of a run that no job trained, and TorchTitan's lines of any.

    Args:
        folder: of the run.
        ranks: of the processes; all by default.
    """
    console = [LogFile(path=folder / "console.log", rank=0, stream="out")]
    own = [
        LogFile(path=path, rank=int(match[1]), stream="out")
        for path in folder.glob("rank*.log")
        if (match := re.fullmatch(r"rank(\d+)\.log", path.name))
    ]
    files = sorted((*console, *own), key=lambda file: (file.rank, file.path.name))
    return [file for file in files if file.path.exists() and (ranks is None or file.rank in ranks)]


def chosen_logs(study: Path, run: str | None, job: JobRecord | None, ranks: Sequence[int] | None) -> list[LogFile]:
    """The logs of a job, or of a run that no job trained, those that are there.

    Args:
        study: the study folder.
        run: its id; None for jobs of the whole study.
        job: as the study's list has it; None where there is none.
        ranks: of the processes; all by default.
    """
    found = job_logs(study, job, ranks) if job else []
    if run is None or (job and job.executor is Executor.SLURM):
        return found
    own = folder_logs(study / "runs" / run, ranks)
    consoles = [file for file in own if file.path.name == "console.log"]
    # Rank 0 prints to the console what it has to say.
    return consoles if consoles and ranks is not None and list(ranks) == [0] else own


def tail(path: Path, size: int = TAIL_BYTES) -> str:
    """The end of a file, from the beginning of a line on.

    Args:
        path: the file; a missing one has none.
        size: bytes, at most.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            content = file.read()
    except OSError:
        return ""
    whole = content if end <= size else content.partition(b"\n")[2]
    return whole.decode("utf-8", errors="replace")
