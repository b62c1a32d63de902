"""A real SLURM on this machine: controller, accounting on MariaDB, and two nodes, all of it in one folder.

    python -m tests.cluster.cluster start FOLDER
    eval "$(python -m tests.cluster.cluster env FOLDER)"
    python -m tests.cluster.cluster stop FOLDER

Several can run side by side: ports, sockets, database and name are each cluster's own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import daemons, hosts, settings
from tests.cluster.daemons import ClusterError, until
from tests.cluster.settings import NODES

PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = (
    *("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db"),
    *("sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel", "sacct", "sacctmgr"),
)
LONGEST_FOLDER = 50  # the path of a unix socket has 107 characters at most


def available() -> str | None:
    """Why no test cluster can run here, or None where one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return (
            f"no SLURM here ({', '.join(missing)} missing): make test-slurm,"
            f" or apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        )
    return None if os.geteuid() == 0 else "the test cluster's daemons start as root only: sudo make test-slurm"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that was started in `folder`."""

    folder: Path

    @classmethod
    def start(cls, folder: Path) -> Cluster:
        """Starts a cluster and waits until both nodes are idle.

        Args:
            folder: a new folder, or that of a cluster that is stopped, whose jobs and accounting are forgotten.

        Returns:
            The cluster.

        Raises:
            ClusterError: a daemon does not come up; the message ends with what it wrote.
        """
        reason = available()
        if reason is not None:
            raise ClusterError(reason)
        cluster = cls(folder=folder.resolve())
        _prepare(cluster.folder)
        try:
            cluster._start()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def _start(self) -> None:
        folder, name = self.folder, f"prx{secrets.token_hex(4)}"
        ports = settings.free_ports()
        _write(folder / "slurm.conf", settings.slurm_conf(folder, name, ports))
        _write(folder / "slurmdbd.conf", settings.slurmdbd_conf(folder, ports))
        hosts.add(folder)
        self._start_munge()
        self._start_database()
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._await("slurmdbd", lambda: self._try("sacctmgr", "-n", "show", "cluster"))
        self.run("sacctmgr", "-i", "add", "cluster", name)
        # The cluster comes with root's account; a second one is for jobs that name theirs.
        self.run("sacctmgr", "-i", "add", "account", settings.ACCOUNT, f"cluster={name}")
        self.run("sacctmgr", "-i", "add", "user", "root", f"account={settings.ACCOUNT}", f"cluster={name}")
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf"))
        self._await("slurmctld", lambda: self._try("scontrol", "ping"))
        for node in NODES:
            self.start_node(node)
        for node in NODES:
            self._await(f"slurmd-{node}", lambda node=node: self.node_state(node) == "idle")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        _write(key, "")
        key.write_bytes(secrets.token_bytes(1024))
        places = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munged.pid", "seed-file": "munged.seed"}
        words = [f"--{option}={self.folder / file}" for option, file in places.items()]
        self._daemon("munged", "munged", "--foreground", *words)
        self._await("munged", (self.folder / "munge.socket").exists)

    def _start_database(self) -> None:
        install = ("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={self.folder / 'database'}")
        quiet = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        made = subprocess.run([*install, *quiet], env=self.environment, capture_output=True, text=True, timeout=60)
        if made.returncode != 0:
            raise ClusterError(f"{self.folder}: no database\n{(made.stdout + made.stderr)[-2000:]}")
        self._daemon("mariadb", *settings.mariadb_words(self.folder))
        self._await("mariadb", (self.folder / "mariadb.socket").exists)

    def _daemon(self, name: str, *words: str, within: str = "") -> None:
        program = shutil.which(words[0], path=_path()) or words[0]
        environment = {**self.environment, "MYSQL_UNIX_PORT": str(self.folder / "mariadb.socket")}
        daemons.start(self.folder, name, (program, *words[1:]), environment, within=self.folder / within)

    def _await(self, name: str, ready: Callable[[], bool], seconds: float = 30) -> None:
        def ended() -> bool:
            return daemons.running(self.folder, name) is None

        if not until(lambda: ended() or ready(), seconds) or ended():
            what = "ended at once" if ended() else f"is not ready after {seconds:.0f} s"
            raise ClusterError(f"{self.folder}: {name} {what}\n{daemons.tail(self.folder, name)}")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for commands that shall use this cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SALLOC"))}
        return {**kept, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *words: str, seconds: float = 60) -> str:
        """Runs a command in this cluster.

        Args:
            words: the command, for example "squeue", "-h".
            seconds: how long it may take.

        Returns:
            What it wrote to stdout.

        Raises:
            ClusterError: it failed or took too long; with what it wrote.
        """
        try:
            done = subprocess.run(
                words, env=self.environment, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{' '.join(words)}: no end after {seconds:.0f} s") from error
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _try(self, *words: str) -> bool:
        try:
            return "DOWN" not in self.run(*words, seconds=10)
        except ClusterError:
            return False

    def node_state(self, node: str) -> str:
        """The state of a node in sinfo's words, such as "idle", "mixed" or "down*"."""
        return self.run("sinfo", "-h", "-N", "-p", "main", "-n", node, "-o", "%T").strip()

    def start_node(self, node: str) -> None:
        """Starts the slurmd of a node."""
        if daemons.running(self.folder, f"slurmd-{node}") is None:
            words = ("slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))
            self._daemon(f"slurmd-{node}", *words, within=f"spool-{node}")

    def kill_node(self, node: str, *, jobs: bool = False) -> None:
        """Kills the slurmd of a node, as kill -9 does.

        Args:
            node: its name.
            jobs: whether the processes of its jobs are killed too, as in a power cut; else they go on.
        """
        pid = daemons.running(self.folder, f"slurmd-{node}")
        if pid is None:
            raise ClusterError(f"{self.folder}: slurmd of {node} is not running")
        for process in [pid, *(daemons.job_processes(self.folder, node) if jobs else [])]:
            daemons.send(process, signal.SIGKILL)
        until(lambda: daemons.running(self.folder, f"slurmd-{node}") is None, 5)

    def stop(self) -> None:
        """Ends the daemons and what is left of jobs; does nothing where all of it is ended."""
        for name in ("slurmctld", *(f"slurmd-{node}" for node in NODES)):
            daemons.stop(self.folder, name)
        for pid in daemons.job_processes(self.folder):
            daemons.send(pid, signal.SIGKILL)
        for name in ("slurmdbd", "mariadb", "munged"):
            daemons.stop(self.folder, name)
        hosts.remove(self.folder)


def _path() -> str:
    # Daemons are in sbin, which is not on every user's path.
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def _prepare(folder: Path) -> None:
    if len(str(folder)) > LONGEST_FOLDER:
        raise ClusterError(f"{folder}: longer than the {LONGEST_FOLDER} characters that leave room for sockets")
    if folder.exists() and any(folder.iterdir()):
        _check_stopped(folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("logs", "pids", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(mode=0o755)


def _check_stopped(folder: Path) -> None:
    if not is_cluster(folder):
        raise ClusterError(f"{folder}: holds other files; name a new folder")
    alive = [path.name for path in (folder / "pids").glob("*") if daemons.running(folder, path.name) is not None]
    if alive:
        raise ClusterError(f"{folder}: {', '.join(sorted(alive))} of this cluster running; stop it first")


def is_cluster(folder: Path) -> bool:
    """Whether a test cluster was started in `folder`."""
    configuration = folder / "slurm.conf"
    return configuration.is_file() and configuration.read_text().startswith(settings.MARK)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600 if path.suffix == ".key" or "dbd" in path.name else 0o644)
    path.write_text(text)


def main(words: list[str]) -> int:
    """The command line: start, stop or env, and a folder."""
    if len(words) != 2 or words[0] not in ("start", "stop", "env"):
        print("usage: python -m tests.cluster.cluster start|stop|env FOLDER", file=sys.stderr)
        return 2
    verb, folder, begin = words[0], Path(words[1]).resolve(), time.monotonic()
    try:
        if verb == "start":
            Cluster.start(folder)
        elif not is_cluster(folder):
            raise ClusterError(f"{folder}: no test cluster was started here")
        elif verb == "stop":
            Cluster(folder=folder).stop()
        else:
            print(f"export SLURM_CONF={folder / 'slurm.conf'}")
            return 0
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    print(f"{'started' if verb == 'start' else 'stopped'} in {time.monotonic() - begin:.1f} s: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
