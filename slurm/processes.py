"""Processes of this machine that work on runs: found by the list of jobs or a run's lock, checked, then signalled."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prx_scale.locks import LOCK
from slurm.local import PARENT_VARIABLE

PROGRAM = "prx_scale"
"""Part of the command of each of our processes: `python -m prx_scale`, or the installed script's path."""
SCRIPT = "prx-scale"


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process as the study's list of jobs names it, host:pid."""

    host: str
    pid: int

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def parse_process(job: str) -> Process | None:
    """The process that a job of this machine is; None where it is none.

    Args:
        job: host:pid.
    """
    host, _, pid = job.rpartition(":")
    return Process(host=host, pid=int(pid)) if host and pid.isdigit() else None


def command_of(pid: int) -> tuple[str, ...]:
    """The words of a process's command; none where it is gone, is another user's, or has only just begun.

    Args:
        pid: its id.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ()
    return tuple(os.fsdecode(word) for word in words if word)


def is_ours(process: Process) -> bool:
    """Whether a process of this machine is alive and runs a verb of this package.

    Args:
        process: on this machine.
    """
    return any(word == PROGRAM or Path(word).name == SCRIPT for word in command_of(process.pid))


def works_on(process: Process, run: str) -> bool:
    """Whether a process of this machine still is the one that was started for a run: numbers are used again.

    Args:
        process: on this machine.
        run: its id.
    """
    return is_ours(process) and run in command_of(process.pid)


def holder(folder: Path) -> Process | None:
    """The process of this machine that holds a run's lock, as far as the kernel says.

    Args:
        folder: of the run.
    """
    try:
        stat = (folder / LOCK).stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return _holder_in(lines, f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}")


def _holder_in(lines: Sequence[str], file: str) -> Process | None:
    for words in (line.split() for line in lines):
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == file and words[4].isdigit() and words[4] != "0":
            return Process(host=socket.gethostname(), pid=int(words[4]))
    return None


def launcher_of(process: Process) -> Process | None:
    """The launcher that started a process of this machine, and starts the next when this one ends.

    Args:
        process: on this machine.
    """
    try:
        variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    name = f"{PARENT_VARIABLE}=".encode()
    found = next((int(each.removeprefix(name)) for each in variables if each.startswith(name)), None)
    launcher = Process(host=process.host, pid=found) if found else None
    return launcher if launcher and is_ours(launcher) else None


def ask_to_end(process: Process) -> bool:
    """Ask a process to save its state and end.

    Args:
        process: on this machine.

    Returns:
        Whether it could be asked.
    """
    try:
        os.kill(process.pid, signal.SIGTERM)
    except OSError:
        return False
    return True
