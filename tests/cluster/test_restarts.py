"""What a training job survives on a real SLURM, and that its continuation is the run that was never interrupted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.daemons import ClusterError
from tests.cluster.sweeps import Sweep, prx_command, train_here, write_study

pytestmark = pytest.mark.slow

STEPS, EVERY = 800, 100


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the same training in one go, in a process of this machine."""
    return train_here(write_study(tmp_path_factory.mktemp("reference") / "one", steps=STEPS, every=EVERY))


@pytest.fixture
def sweep(idle_cluster: Cluster, tmp_path: Path) -> Sweep:
    """A study of one run of one process that takes half a minute."""
    folder = write_study(tmp_path / "one", steps=STEPS, every=EVERY, slurm="then = []\nsignal_seconds = 30\n")
    return Sweep(cluster=idle_cluster, folder=folder)


def assert_same_run(sweep: Sweep, reference: Path) -> None:
    """Every validation row once and to the bit, every logged loss, and the averaged weights of the end."""
    own = sweep.run_folder()
    assert (own / "validation.jsonl").read_bytes() == (reference / "validation.jsonl").read_bytes()
    kept = ("step", "loss", "lr", "grad_norm")
    expected = [json.loads(line) for line in (reference / "train.jsonl").read_text().splitlines()]
    pick = [[{key: row[key] for key in kept} for row in rows] for rows in (sweep.rows("train"), expected)]
    assert pick[0] == pick[1]


def running_past(sweep: Sweep, step: int) -> None:
    """Wait until the run has logged a step."""
    sweep.wait(lambda: sweep.step() >= step, 90, f"step {step}")


def first_end(sweep: Sweep, seconds: float) -> dict[str, Any]:
    """Wait until the first start of the run has ended, and return what it recorded of that."""

    def ends() -> list[dict[str, Any]]:
        return [row for row in sweep.rows("attempts") if row["event"] == "end"]

    sweep.wait(lambda: bool(ends()), seconds, "the end of the first start")
    return ends()[0]


def gives(sweep: Sweep, job: str, *, minutes: int) -> bool:
    """Whether SLURM gives a job another time limit; not while one start has ended and the job is not queued again."""
    try:
        sweep.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    except ClusterError as error:
        assert "Job has already finished" in str(error)
        return False
    return True


def test_requeue_in_the_middle(sweep: Sweep, uninterrupted: Path) -> None:
    sweep.launch()
    running_past(sweep, 150)
    (job,) = sweep.jobs()
    sweep.cluster.run("scontrol", "requeue", job.job)
    sweep.wait_done()
    assert_same_run(sweep, uninterrupted)
    (line,) = sweep.status()
    assert line["restarts"] == 1
    # The restart went on in the same logs, and says so.
    log = (sweep.folder / f"{job.logs}_0_log.out").read_text()
    assert log.index(f"=== job {job.job}, first start") < log.index(f"=== job {job.job}, restart 1")


def test_the_code_of_a_restart_is_that_of_the_submission(sweep: Sweep, uninterrupted: Path) -> None:
    sweep.launch()
    (job,) = sweep.jobs()
    assert job.code is not None
    snapshot = sweep.folder / job.code
    assert (snapshot / "prx_scale" / "training" / "trainer.py").exists()
    running_past(sweep, 100)
    # What the submitting machine's code becomes does not matter: the job's processes have the snapshot open.
    import psutil

    def works_from(process: psutil.Process) -> str:
        return process.environ().get("PYTHONPATH", "")

    found = [p for p in psutil.process_iter(["cmdline"]) if "submitit.core._submit" in (p.info["cmdline"] or [])]
    own = [p for p in found if str(sweep.folder) in " ".join(p.info["cmdline"])]
    assert own and all(works_from(p).startswith(str(snapshot)) for p in own)
    sweep.cluster.run("scontrol", "requeue", job.job)
    sweep.wait_done()
    assert_same_run(sweep, uninterrupted)
    assert sweep.info()["commit"] == json.loads((snapshot / "code.json").read_text())["commit"]


def test_time_limit(sweep: Sweep, tmp_path: Path) -> None:
    # SLURM's limits are whole minutes, so this run is longer; the one in one go is trained beside it. After the first
    # stop the job has more time: how many starts of a minute would make up the run is the machine's affair.
    sizes = {"steps": 1800, "every": 300}
    reference = write_study(tmp_path / "reference" / "one", **sizes)
    beside = subprocess.Popen(prx_command("train", str(reference)), env=sweep.environment, stdout=subprocess.DEVNULL)
    write_study(sweep.folder, **sizes, minutes=1, slurm="then = []\nsignal_seconds = 45\n")
    sweep.launch()
    (job,) = sweep.jobs()
    first = first_end(sweep, 120)
    sweep.wait(lambda: gives(sweep, job.job, minutes=15), 60, "more time for the job")
    assert first["cause"] == "time-limit"
    sweep.wait_done(400)
    assert beside.wait(timeout=200) == 0
    (uninterrupted,) = (reference / "runs").iterdir()
    assert_same_run(sweep, uninterrupted)
    (line,) = sweep.status()
    assert line["restarts"] >= 1


def test_preemption_is_called_so_under_a_short_limit(sweep: Sweep, uninterrupted: Path) -> None:
    sweep.launch()
    running_past(sweep, 150)
    everything = ("--partition=urgent", "--nodes=2", "--ntasks-per-node=4", "--exclusive")
    sweep.cluster.run("sbatch", *everything, "--output=/dev/null", "--time=1", "--wrap=sleep 5")
    first = first_end(sweep, 60)
    assert first["cause"] == "preempted"
    sweep.wait_done()
    assert_same_run(sweep, uninterrupted)


def test_a_node_dies(sweep: Sweep, uninterrupted: Path) -> None:
    sweep.launch()
    running_past(sweep, 150)
    (job,) = sweep.jobs()
    node = sweep.cluster.run("squeue", "-h", "-j", job.job, "-o", "%N").strip()
    sweep.cluster.kill_node(node, jobs=True)
    sweep.wait_done()
    sweep.cluster.start_node(node)
    assert_same_run(sweep, uninterrupted)


def test_a_node_is_cut_off_and_goes_on(sweep: Sweep, uninterrupted: Path) -> None:
    sweep.launch()
    running_past(sweep, 150)
    (job,) = sweep.jobs()
    node = sweep.cluster.run("squeue", "-h", "-j", job.job, "-o", "%N").strip()
    sweep.cluster.kill_node(node)  # its processes live on, and the controller gives the job to the other node
    sweep.wait_done()
    sweep.cluster.start_node(node)
    assert_same_run(sweep, uninterrupted)


def test_a_crash_loop_ends_with_its_reason(idle_cluster: Cluster, tmp_path: Path) -> None:
    # A validation that never comes before the kill: every start is from step 0.
    slurm = "then = []\nmax_fruitless = 2\n"
    folder = write_study(tmp_path / "loop", steps=5000, every=5000, slurm=slurm)
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    sweep.launch()
    import psutil

    killed: set[int] = set()

    def failed() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            ours = "python" in words[0] and "submitit.core._submit" in words and words[-1].startswith(str(folder))
            starts = sum(row["event"] == "start" for row in sweep.rows("attempts"))
            if ours and process.pid not in killed and starts > len(killed):
                killed.add(process.pid)
                process.kill()
        return sweep.info().get("state") == "failed"

    sweep.wait(failed, 120, "the run to be given up")
    assert len(killed) >= 2
    (line,) = sweep.status()
    assert line["state"] == "failed" and "from step 0" in line["reason"]
    again = sweep.launch()
    assert "nothing to submit" in again and "prx-scale retry" in again
    sweep.prx("retry", str(folder), "--fresh")
    assert len(sweep.jobs()) == 2 and any((folder / "set-aside").iterdir())


def test_what_dies_before_it_can_count_is_not_started_for_ever(idle_cluster: Cluster, tmp_path: Path) -> None:
    slurm = "then = []\nmax_restarts = 1\npython = 'sh -c \"kill -9 \\$\\$\" --'\n"
    sweep = Sweep(cluster=idle_cluster, folder=write_study(tmp_path / "dies", slurm=slurm))
    sweep.launch()
    (job,) = sweep.jobs()
    sweep.wait(
        lambda: "FAILED" in idle_cluster.run("sacct", "-n", "-X", "-j", job.job, "-o", "State"), 90, "the failure"
    )
    (line,) = sweep.status()
    assert line["state"] == "failed" and line["restarts"] == 1
