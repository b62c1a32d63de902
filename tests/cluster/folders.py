"""The folder of a test cluster: made, recognised, and never somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster import daemons, settings
from tests.cluster.daemons import ClusterError

# The path of a unix socket has 107 characters at most, and those of slurmstepd are the longest.
LONGEST = 60


def prepare(folder: Path) -> None:
    """Makes the folder of a cluster, in place of that of one that is stopped.

    Raises:
        ClusterError: its path is too long, it holds other files, or its cluster is running.
    """
    if len(str(folder)) > LONGEST:
        raise ClusterError(f"{folder}: longer than the {LONGEST} characters that leave room for sockets")
    if folder.exists() and any(folder.iterdir()):
        _check_stopped(folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged refuses a socket that not everyone can reach
    write(folder / "slurm.conf", settings.MARK)
    for name in ("logs", "pids", "state", *(f"spool-{node}" for node in settings.NODES)):
        (folder / name).mkdir(mode=0o755)


def is_cluster(folder: Path) -> bool:
    """Whether a test cluster was started in `folder`."""
    configuration = folder / "slurm.conf"
    return configuration.is_file() and configuration.read_text().startswith(settings.MARK)


def write(path: Path, content: str | bytes, *, secret: bool = False) -> None:
    """Writes a file, which only its owner can read where it is secret."""
    path.touch(mode=0o600 if secret else 0o644)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _check_stopped(folder: Path) -> None:
    if not is_cluster(folder):
        raise ClusterError(f"{folder}: holds other files; name a new folder")
    alive = [path.name for path in (folder / "pids").glob("*") if daemons.running(folder, path.name) is not None]
    if alive:
        raise ClusterError(f"{folder}: {', '.join(sorted(alive))} of this cluster running; stop it first")
