"""Jobs of a test cluster: submitted, looked at, waited for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from tests.cluster import daemons
from tests.cluster.cluster import Cluster
from tests.cluster.daemons import ClusterError, until
from tests.cluster.settings import NODES


def submit(cluster: Cluster, folder: Path, script: str, *options: str) -> str:
    """Submits a batch script.

    Args:
        cluster: where.
        folder: where the job runs, and where `JOB.txt` has its output, that of restarts appended.
        script: the lines after the shebang.
        options: more words for sbatch.

    Returns:
        The job's id.
    """
    path = folder / "job.sh"
    path.write_text(f"#!/bin/bash\n{script}\n")
    output = (f"--output={folder}/%j.txt", "--open-mode=append", f"--chdir={folder}")
    return cluster.run("sbatch", "--parsable", *output, *options, str(path)).strip()


def state(cluster: Cluster, job: str) -> str:
    """The state of a job in the controller's words, such as "RUNNING"; empty when it has forgotten the job."""
    return cluster.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()


def accounted(cluster: Cluster, job: str) -> list[str]:
    """The states of a job in accounting, one for each time that it was started."""
    words = ("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", "--format=State", "--jobs", job)
    return cluster.run(*words).split("\n")[:-1]


def wait_for(cluster: Cluster, predicate: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until a predicate holds.

    Args:
        cluster: whose queue and logs are shown when it does not.
        predicate: is asked again and again.
        seconds: how long.
        what: ends the sentence "did not see ..." of the failure.

    Raises:
        ClusterError: it did not hold in time; with the queue, the nodes and the ends of the daemons' logs.
    """
    if not until(predicate, seconds, pause=0.25):
        queue = cluster.run("squeue", "--states=all", "--format=%i %j %P %T %N %r")
        nodes = cluster.run("sinfo", "--Node", "--long")
        logs = [daemons.tail(cluster.folder, f"{name}.log") for name in ("slurmctld", *(f"slurmd-{n}" for n in NODES))]
        raise ClusterError("\n".join([f"did not see {what} in {seconds:.0f} s", queue, nodes, *logs]))


def tidy(cluster: Cluster, seconds: float = 60) -> None:
    """Ends all jobs, starts nodes that were killed, and waits until both nodes are idle."""
    cluster.run("scancel", "--user=root")
    for pid in daemons.job_processes(cluster.folder, keepers=False):  # KillWait would be waiting for nothing
        daemons.send(pid, signal.SIGKILL)
    for node in NODES:
        cluster.start_node(node)
    wait_for(cluster, lambda: all(cluster.node_state(node) == "idle" for node in NODES), seconds, "both nodes idle")
