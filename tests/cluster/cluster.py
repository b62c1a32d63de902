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

from tests.cluster import daemons, folders, hosts, settings
from tests.cluster.daemons import ClusterError, until
from tests.cluster.packages import available, search_path
from tests.cluster.settings import NODES

# Variables that would change what SLURM's commands do or print.
VARIABLES = ("SLURM", "SBATCH", "SALLOC", "SRUN", "SQUEUE", "SINFO", "SACCT", "SCANCEL", "SCONTROL")


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
        folders.prepare(cluster.folder)
        try:
            cluster._start()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for commands that shall use this cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)}
        return {**kept, "PATH": search_path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

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

    def node_state(self, node: str) -> str:
        """The state of a node in sinfo's words, such as "idle", "mixed" or "down*"."""
        return self.run("sinfo", "-h", "-N", "-p", settings.MAIN, "-n", node, "-o", "%T").strip()

    def start_node(self, node: str) -> None:
        """Starts the slurmd of a node where it is not running."""
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

    def _start(self) -> None:
        folder, name = self.folder, f"prx{secrets.token_hex(4)}"
        ports = settings.free_ports()
        folders.write(folder / "slurm.conf", settings.slurm_conf(folder, name, ports))
        folders.write(folder / "slurmdbd.conf", settings.slurmdbd_conf(folder, ports), secret=True)
        folders.write(folder / "cgroup.conf", settings.CGROUP_CONF)
        hosts.add(folder)
        self._start_munge()
        self._start_database()
        self._start_accounting(name)
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf"))
        self._await("slurmctld", lambda: self._answers("scontrol", "ping"))
        for node in NODES:
            self.start_node(node)
        for node in NODES:
            self._await(f"slurmd-{node}", lambda node=node: self.node_state(node) == "idle")

    def _start_munge(self) -> None:
        folders.write(self.folder / "munge.key", secrets.token_bytes(1024), secret=True)
        places = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "munged.pid",
            "seed-file": "munge.seed",
        }
        words = [f"--{option}={self.folder / file}" for option, file in places.items()]
        self._daemon("munged", "munged", "--foreground", *words)
        self._await("munged", (self.folder / "munge.socket").exists)

    def _start_database(self) -> None:
        words = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={self.folder / 'database'}"]
        words += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        self.run(*words)
        self._daemon("mariadb", *settings.mariadb_words(self.folder))
        self._await("mariadb", settings.database_socket(self.folder).exists)

    def _start_accounting(self, name: str) -> None:
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._await("slurmdbd", lambda: self._answers("sacctmgr", "-n", "show", "cluster"))
        self.run("sacctmgr", "-i", "add", "cluster", name)
        # The cluster comes with root's account; the second one is for jobs that name theirs.
        self.run("sacctmgr", "-i", "add", "account", settings.ACCOUNT, f"cluster={name}")
        self.run("sacctmgr", "-i", "add", "user", "root", f"account={settings.ACCOUNT}", f"cluster={name}")

    def _daemon(self, name: str, *words: str, within: str = "") -> None:
        program = shutil.which(words[0], path=search_path()) or words[0]
        environment = {**self.environment, "MYSQL_UNIX_PORT": str(settings.database_socket(self.folder))}
        daemons.start(self.folder, name, (program, *words[1:]), environment, within=self.folder / within)

    def _await(self, name: str, ready: Callable[[], bool], seconds: float = 30) -> None:
        def ended() -> bool:
            return daemons.running(self.folder, name) is None

        if not until(lambda: ended() or ready(), seconds) or ended():
            what = "has ended" if ended() else f"is not ready after {seconds:.0f} s"
            raise ClusterError(f"{self.folder}: {name} {what}\n{daemons.tail(self.folder, f'{name}.out')}")

    def _answers(self, *words: str) -> bool:
        try:
            return "DOWN" not in self.run(*words, seconds=10)
        except ClusterError:
            return False


def main(words: list[str]) -> int:
    """The command line: start, stop or env, and a folder."""
    if len(words) != 2 or words[0] not in ("start", "stop", "env"):
        print("usage: python -m tests.cluster.cluster start|stop|env FOLDER", file=sys.stderr)
        return 2
    verb, folder, begin = words[0], Path(words[1]).resolve(), time.monotonic()
    try:
        if verb == "start":
            Cluster.start(folder)
        elif not folders.is_cluster(folder):
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
