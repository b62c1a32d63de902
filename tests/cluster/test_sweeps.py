"""A study becomes jobs on a real SLURM and comes home as a report."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from slurm.ledger import Kind
from tests.cluster.cluster import Cluster
from tests.cluster.sweeps import Sweep, prx_command, train_here, write_study

pytestmark = pytest.mark.slow


def test_two_nodes_train_as_one_process_does(idle_cluster: Cluster, tmp_path: Path) -> None:
    sweep = Sweep(cluster=idle_cluster, folder=write_study(tmp_path / "two", depth="2", nodes=2, slurm="then = []"))
    reference = train_here(write_study(tmp_path / "one", depth="2"))
    sweep.launch()
    sweep.wait_done()
    info = sweep.info()
    assert info["world_size"] == 2
    (start,) = (row for row in sweep.rows("attempts") if row["event"] == "start")
    assert start["executor"] == "slurm" and start["world_size"] == 2
    expected = [json.loads(line) for line in (reference / "train.jsonl").read_text().splitlines()]
    found = sweep.rows("train")
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for own, other in zip(found, expected, strict=True):
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-5)
    (job,) = sweep.jobs()
    for rank in range(2):
        assert f"rank {rank} on n" in (sweep.folder / f"{job.logs}_{rank}_log.out").read_text()


def test_a_depth_sweep_to_its_report(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "depths", depth="[1, 2]", slurm="[slurm.depth.2]\nnodes = 2\n")
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("batch = 32", "batch = 32\nseed = [0, 1]"))
    dry = sweep.launch("--dry-run=scheduler")
    assert dry.count("#SBATCH --nodes=2") == 1 and "SLURM on depths-train: Job" in dry
    assert not (folder / "runs").exists() and not (folder / "jobs").exists()
    sweep.launch()
    assert [len({job.array for job in sweep.jobs(kind)}) for kind in (Kind.TRAIN, Kind.EVALUATE, Kind.REPORT)] == [
        2,
        4,
        1,
    ]
    again = sweep.launch()
    assert "nothing to submit" in again and len(sweep.jobs()) == 4
    sweep.wait((folder / "report.html").exists, 240, "the report")
    sweep.wait_done(10)
    assert all(sweep.rows("evaluation", run) for run in ("d1-s0", "d1-s1", "d2-s0", "d2-s1"))
    page = (folder / "report.html").read_text()
    assert "d2-s1" in page
    sweep.wait(lambda: not idle_cluster.run("squeue", "-h").strip(), 30, "an empty queue")
    assert "nothing to submit" in sweep.launch()


def test_two_launch_at_once_and_each_run_starts_once(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "both", slurm="")
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("batch = 32", "batch = 32\nseed = [0, 1, 2]"))
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    words = prx_command("sweep", str(folder), "--executor", "slurm")
    both = [
        subprocess.Popen(words, env=sweep.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    said = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0, 0], said
    assert sum("nothing to submit" in text for text in said) == 2, said
    assert len(sweep.jobs()) == 3 and len({job.run for job in sweep.jobs()}) == 3
    assert len(sweep.jobs(Kind.EVALUATE)) == 3 and len(sweep.jobs(Kind.REPORT)) == 1


def test_a_launcher_that_died_is_not_waited_for_long(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "dead", slurm="then = []")
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    code = f"""
import os, pathlib, time
from slurm.launchlock import only_launcher
with only_launcher(pathlib.Path({str(folder)!r}), print):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([prx_command()[0], "-c", code], env=sweep.environment, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
    holder.kill()
    holder.wait()
    start = time.monotonic()
    said = sweep.launch()
    assert f"process {holder.pid} on" in said and "is launching this study: waiting for it" in said
    assert time.monotonic() - start < 60
    assert len(sweep.jobs()) == 1


def test_the_limit_of_jobs_makes_waves(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "waves", steps=20, slurm="")
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("batch = 32", "batch = 32\nseed = [0, 1, 2]"))
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    idle_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=6")
    try:
        said = sweep.launch()
        assert "1 runs wait for the cluster's limit of jobs" in said
        assert len(sweep.jobs()) == 2 and len(sweep.jobs(Kind.LAUNCH)) == 1
        sweep.wait(lambda: len(sweep.jobs()) == 3, 150, "the launch of the rest")
        sweep.wait(lambda: len(list(folder.glob("runs/*/evaluation.jsonl"))) == 3, 120, "all scores")
        sweep.wait_done(10)
    finally:
        idle_cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=-1")


def test_arrays_are_split_at_the_controllers_limit(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "long", slurm='then = []\nbegin = "now+1hour"\n')
    text = (folder / "study.toml").read_text()
    seeds = ", ".join(map(str, range(10)))
    (folder / "study.toml").write_text(text.replace("batch = 32", f"batch = 32\nseed = [{seeds}]"))
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    sweep.launch()
    assert sorted(len([j for j in sweep.jobs() if j.array == a]) for a in {j.array for j in sweep.jobs()}) == [2, 8]
    sweep.prx("cancel", str(folder))
    assert not idle_cluster.run("squeue", "-h").strip()
    assert {line["state"] for line in sweep.status()} == {"cancelled"}


def test_cancel_and_launch_again(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "gone", steps=3000, every=50)
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    sweep.launch()
    sweep.wait(lambda: sweep.step() >= 60, 90, "step 60")
    sweep.prx("cancel", str(folder))
    sweep.wait(lambda: not idle_cluster.run("squeue", "-h").strip(), 60, "an empty queue")
    (line,) = sweep.status()
    assert line["state"] == "cancelled"
    reached = sweep.step()
    sweep.launch()
    sweep.wait(lambda: sweep.step() > reached, 90, "the run to go on")
    starts = [row for row in sweep.rows("attempts") if row["event"] == "start"]
    assert len(starts) == 2 and starts[1]["from_step"] >= 50
    steps = [row["step"] for row in sweep.rows("validation") if row["weights"] == "raw"]
    assert len(steps) == len(set(steps))


def test_a_failing_run_is_grouped_by_cause_and_the_rest_goes_on(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "mixed", depth="1", steps=40)
    text = (folder / "study.toml").read_text()
    text += '\n[[variant]]\nname = "wild"\ntraining.lr = 1e30\ntraining.seed = [0, 1]\n'
    (folder / "study.toml").write_text(text)
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    sweep.launch()
    sweep.wait((folder / "report.html").exists, 240, "the report")
    states = {line["run"]: line["state"] for line in sweep.status()}
    assert sorted(states.values()) == ["done", "failed", "failed"]
    said = sweep.prx("status", str(folder), code=None)
    assert "not finite" in said and "2 runs" in said
    page = (folder / "report.html").read_text()
    assert all(run in page for run in states)
    refused = sweep.prx("sweep", str(folder), "--executor", "slurm", code=None)
    assert "prx-scale retry" in refused
    # Two who try again at once start each run once.
    words = prx_command("retry", str(folder))
    both = [subprocess.Popen(words, env=sweep.environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    # The second finds nothing to do, or, where it is late, nothing that has failed.
    assert sorted(each.wait(timeout=120) for each in both) in ([0, 0], [0, 2])
    assert len(sweep.jobs()) == 5
    assert len({job.run for job in sweep.jobs()}) == 3


def test_what_slurm_refuses_is_told_in_its_words(idle_cluster: Cluster, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "refused", slurm='partition = "nowhere"\n')
    sweep = Sweep(cluster=idle_cluster, folder=folder)
    said = sweep.prx("sweep", str(folder), "--executor", "slurm", code=2)
    assert "invalid partition" in said and not sweep.jobs()
    dry = sweep.prx("sweep", str(folder), "--executor", "slurm", "--dry-run=scheduler", code=2)
    assert "invalid partition" in dry
