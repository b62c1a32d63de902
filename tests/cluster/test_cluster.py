"""What the tests of jobs rely on: the cluster starts, accounts, requeues, preempts, loses nodes, and stops."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import daemons, settings
from tests.cluster.cluster import Cluster
from tests.cluster.daemons import ClusterError
from tests.cluster.hosts import HOSTS
from tests.cluster.jobs import accounted, state, submit, wait_for
from tests.cluster.settings import GRACE_S, NODES, URGENT

pytestmark = pytest.mark.slow

# Says that it started and that it was told to end; ends when it is told a second time.
PATIENT = """srun bash -c 'trap "echo TERM; trap - TERM" TERM
echo start ${SLURM_RESTART_COUNT:-0}
while true; do sleep 0.1; done'"""


def said(folder: Path, job: str) -> str:
    """What a job has written so far."""
    path = folder / f"{job}.txt"
    return path.read_text() if path.exists() else ""


def test_two_tasks_on_two_nodes_that_know_each_other_by_name(idle_cluster: Cluster) -> None:
    assert [idle_cluster.node_state(node) for node in NODES] == ["idle", "idle"]
    words = ("srun", "--nodes=2", "--ntasks=2", "sh", "-c", "echo $SLURMD_NODENAME; getent hosts n1 n2")
    lines = idle_cluster.run(*words).splitlines()
    assert sorted(line for line in lines if line in NODES) == sorted(NODES)
    assert {line.split()[0] for line in lines if line not in NODES} == {"127.0.0.1"}


def test_accounting_knows_a_job_within_seconds(idle_cluster: Cluster, tmp_path: Path) -> None:
    job = submit(idle_cluster, tmp_path, "exit 3", "--account=lab")
    wait_for(idle_cluster, lambda: accounted(idle_cluster, job) == ["FAILED"], 15, "the failed job in accounting")
    words = ("sacct", "-n", "-P", "-X", "-j", job, "-o", "Account,ExitCode")
    assert idle_cluster.run(*words).strip() == "lab|3:0"


def test_requeue_starts_a_job_again_within_ten_seconds(idle_cluster: Cluster, tmp_path: Path) -> None:
    job = submit(idle_cluster, tmp_path, "echo start ${SLURM_RESTART_COUNT:-0}; sleep 600")
    wait_for(idle_cluster, lambda: "start 0" in said(tmp_path, job), 15, "the first start")
    begin = time.monotonic()
    idle_cluster.run("scontrol", "requeue", job)
    wait_for(idle_cluster, lambda: "start 1" in said(tmp_path, job), 20, "the second start")
    assert time.monotonic() - begin < 10
    assert accounted(idle_cluster, job)[0] == "REQUEUED"


def test_a_killed_slurmd_takes_its_node_down_and_its_job_goes_to_the_other(
    idle_cluster: Cluster, tmp_path: Path
) -> None:
    job = submit(idle_cluster, tmp_path, "echo start $SLURMD_NODENAME; sleep 600")
    wait_for(idle_cluster, lambda: "start" in said(tmp_path, job), 15, "the first start")
    (dead,) = [node for node in NODES if node in said(tmp_path, job)]
    (other,) = set(NODES) - {dead}
    idle_cluster.kill_node(dead)
    assert daemons.job_processes(idle_cluster.folder, dead)  # only the daemon is gone
    wait_for(idle_cluster, lambda: idle_cluster.node_state(dead).startswith("down"), 40, f"{dead} down")
    wait_for(idle_cluster, lambda: f"start {other}" in said(tmp_path, job), 30, f"the second start on {other}")
    assert accounted(idle_cluster, job)[0] == "NODE_FAIL"
    idle_cluster.start_node(dead)
    wait_for(idle_cluster, lambda: not daemons.job_processes(idle_cluster.folder, dead), 30, "the end of the old job")


def test_a_power_cut_kills_the_processes_of_jobs_too(idle_cluster: Cluster, tmp_path: Path) -> None:
    job = submit(idle_cluster, tmp_path, "srun sh -c 'echo start; sleep 600'", "--nodes=2", "--ntasks=2")
    wait_for(idle_cluster, lambda: said(tmp_path, job).count("start") == 2, 15, "both tasks")
    assert daemons.job_processes(idle_cluster.folder, "n2")
    idle_cluster.kill_node("n2", jobs=True)
    # Killed processes are listed until they are reaped.
    wait_for(idle_cluster, lambda: not daemons.job_processes(idle_cluster.folder, "n2"), 10, "the end of n2's jobs")


def test_urgent_work_preempts_a_job_that_is_told_first_and_comes_back(idle_cluster: Cluster, tmp_path: Path) -> None:
    job = submit(idle_cluster, tmp_path, PATIENT, "--nodes=2", "--exclusive")
    wait_for(idle_cluster, lambda: said(tmp_path, job).count("start 0") == 2, 15, "the first start")
    urgent = submit(idle_cluster, tmp_path, "sleep 1", f"--partition={URGENT}", "--exclusive")
    wait_for(idle_cluster, lambda: said(tmp_path, job).count("TERM") == 2, 15, "SIGTERM in both tasks")
    told = time.monotonic()
    wait_for(idle_cluster, lambda: state(idle_cluster, urgent) == "COMPLETED", GRACE_S + 20, "the urgent job's end")
    assert time.monotonic() - told > GRACE_S - 2
    wait_for(idle_cluster, lambda: "start 1" in said(tmp_path, job), 30, "the second start")
    assert accounted(idle_cluster, job)[0] == "PREEMPTED"


def test_a_limit_on_submitted_jobs_is_enforced(idle_cluster: Cluster, tmp_path: Path) -> None:
    idle_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=2")
    try:
        for _ in range(2):
            submit(idle_cluster, tmp_path, "sleep 600", "--hold")
        with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
            submit(idle_cluster, tmp_path, "sleep 600", "--hold")
    finally:
        idle_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    submit(idle_cluster, tmp_path, "sleep 600", "--hold")


def test_arrays_are_limited(idle_cluster: Cluster, tmp_path: Path) -> None:
    submit(idle_cluster, tmp_path, "true", "--array=0-7")
    with pytest.raises(ClusterError, match="Invalid job array"):
        submit(idle_cluster, tmp_path, "true", "--array=0-8")


@pytest.fixture
def folder(slurm: None) -> Iterator[Path]:
    """A folder with a short path, for a cluster of the test's own."""
    with tempfile.TemporaryDirectory(prefix="prx-cluster-") as name:
        yield Path(name)
        Cluster(folder=Path(name)).stop()


def processes_of(folder: Path) -> list[int]:
    """Daemons of a cluster, by the mark in their environment, and processes of its jobs."""
    found = daemons.job_processes(folder)
    for entry in Path("/proc").iterdir():
        try:
            marked = entry.name.isdigit() and f"PRX_CLUSTER={folder}\0".encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        found += [int(entry.name)] if marked else []
    return found


def test_a_cluster_beside_another_stops_after_a_crash_with_its_jobs(
    idle_cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    second = Cluster.start(folder)
    job = submit(second, tmp_path, "srun sh -c 'echo start; sleep 600'", "--nodes=2", "--ntasks=2")
    wait_for(second, lambda: said(tmp_path, job).count("start") == 2, 15, "both tasks")
    assert len(processes_of(folder)) >= 6 + 3
    controller = daemons.running(folder, "slurmctld")
    assert controller is not None
    daemons.send(controller, signal.SIGKILL)
    second.stop()
    assert processes_of(folder) == []
    assert str(folder) not in HOSTS.read_text()
    assert [idle_cluster.node_state(node) for node in NODES] == ["idle", "idle"]
    second.stop()


def test_a_start_that_fails_says_why_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = replace(settings.free_ports(), accounting=taken.getsockname()[1])
        monkeypatch.setattr(settings, "free_ports", lambda: ports)
        with pytest.raises(ClusterError, match=r"(?s)slurmdbd has ended.*Address already in use"):
            Cluster.start(folder)
    assert processes_of(folder) == []


def test_other_files_are_not_taken_for_an_old_cluster(folder: Path) -> None:
    (folder / "thesis.txt").write_text("only copy")
    with pytest.raises(ClusterError, match="holds other files"):
        Cluster.start(folder)
    assert (folder / "thesis.txt").read_text() == "only copy"
