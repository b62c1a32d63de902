"""Programs that go on in the background: started with their process id in a file, and stopped by it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.settings import NODES


class ClusterError(Exception):
    """The cluster cannot start, or did not do what it was asked for in time."""


def until(predicate: Callable[[], bool], seconds: float, *, pause: float = 0.05) -> bool:
    """Whether `predicate` holds within `seconds`, asked after every `pause`."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def start(
    folder: Path, name: str, words: tuple[str, ...], environment: Mapping[str, str], *, within: Path | None = None
) -> None:
    """Starts a program in a session of its own, so that a Ctrl-C here does not end it.

    Args:
        folder: the cluster's; the process id goes to `pids/NAME`, what is printed to `logs/NAME.out`.
        name: what the program is called here.
        words: the command; the program must stay in the foreground.
        environment: its environment variables.
        within: its working folder; by default the cluster's.
    """
    with (folder / "logs" / f"{name}.out").open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, "PRX_CLUSTER": str(folder)},
            cwd=within or folder,
            start_new_session=True,
        )
    (folder / "pids" / name).write_text(f"{process.pid}\n{Path(words[0]).name}\n")
    # A program that has only just been executed shows no arguments yet.
    until(lambda: running(folder, name) is not None or process.poll() is not None, 5)


def running(folder: Path, name: str) -> int | None:
    """The process id of a daemon, if that process still is that daemon of this cluster."""
    try:
        pid, program = (folder / "pids" / name).read_text().split()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    same = os.path.basename(os.fsdecode(words[0])) == program  # a zombie has no words
    return int(pid) if same and os.fsencode(f"PRX_CLUSTER={folder}") in environment else None


def stop(folder: Path, name: str, *, seconds: float = 10) -> None:
    """Ends a daemon with SIGTERM, and with SIGKILL when `seconds` were not enough."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        pid = running(folder, name)
        if pid is None:
            break
        send(pid, number)
        if until(lambda: running(folder, name) is None, patience):
            break
    if running(folder, name) is not None:
        raise ClusterError(f"{folder}: {name} does not end")
    (folder / "pids" / name).unlink(missing_ok=True)


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def job_processes(folder: Path, node: str | None = None, *, keepers: bool = True) -> list[int]:
    """Processes of jobs of a cluster: the keepers of steps (slurmstepd) and all that they started.

    A keeper has its slurmd's working folder, and hides its environment.

    Args:
        folder: the cluster's.
        node: only those of this node.
        keepers: whether the keepers are wanted too.
    """
    spools = [f"{folder}/spool-{name}" for name in (NODES if node is None else (node,))]
    roots = {pid for pid in _pids() if _name(pid) == "slurmstepd" and _cwd(pid) in spools}
    found, fresh = roots, roots
    parents = {pid: _parent(pid) for pid in _pids()}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh}
        found = found | fresh
    return sorted(found if keepers else found - roots)


def tail(folder: Path, file: str, lines: int = 15) -> str:
    """The last lines of a file of the cluster's logs, under its path."""
    path = folder / "logs" / file
    text = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join([f"-- the end of {path}", *text[-lines:]])


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0
