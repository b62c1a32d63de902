"""What a real controller and accounting say of jobs, and what `status`, `logs` and `cancel` make of it."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

import pytest

from prx_scale import study
from prx_scale.errors import InputError
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from slurm import controller
from slurm.controller import cancel_jobs, job_statuses, site_limits
from slurm.jobstatus import Phase
from slurm.ledger import Executor, JobRecord, Kind, note_jobs
from slurm.status import study_status
from tests.cluster.cluster import Cluster
from tests.cluster.jobs import submit, wait_for
from tests.cluster.sweeps import VARIABLES, prx_command
from tests.prx_scale.runs.records import make_info, train_row

LONG = "sleep 300"
STUDY = '[study]\nname = "s"\n[model]\ndepth = [1, 2, 3, 4, 5, 6, 7, 8]\npatch = 4\n[training]\nsteps = 100\n'


@pytest.fixture
def here(idle_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, also for what is called in this process."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in idle_cluster.environment.items():
        monkeypatch.setenv(name, value)
    # As inside a job: none of this may change what is asked.
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_MEM_PER_NODE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    return idle_cluster


def prx(cluster: Cluster, *words: str | Path, code: int = 0) -> str:
    """Run a verb as a user of the cluster does."""
    environment = {**cluster.environment, **VARIABLES}
    done = subprocess.run(prx_command(*map(str, words)), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(folder: Path, run: str, job: str) -> None:
    """Put a job on a study's list as that of a run, and say in its record that it trains."""
    record = JobRecord(job=job, kind=Kind.TRAIN, executor=Executor.SLURM, run=run, logs=f"jobs/x/{job}")
    note_jobs(folder, [record])
    RunRecord(folder / "runs" / run).write(make_info(run))
    RunRecord(folder / "runs" / run).append(train_row(40))


@pytest.mark.slow
def test_jobs_in_every_state(here: Cluster, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    runs = [run.id for run in study.load(tmp_path).runs]
    times_out = submit(here, tmp_path, LONG, "-t", "9")
    requeued = submit(here, tmp_path, f'echo "start ${{SLURM_RESTART_COUNT:-0}}"; {LONG}', "-t", "9", *_logs(tmp_path))
    failing = submit(here, tmp_path, "exit 3", "-t", "9")
    array = submit(here, tmp_path, LONG, "-t", "9", "--array=0-3%1")
    held = submit(here, tmp_path, LONG, "--hold")
    jobs = [times_out, requeued, failing, f"{array}_0", f"{array}_2", held, "777", "777_1"]
    for run, job in zip(runs, jobs, strict=True):
        listed(tmp_path, run, job)
    wait_for(here, lambda: job_statuses([f"{array}_0"])[f"{array}_0"].phase is Phase.RUNNING, 20, "task 0 at work")
    here.run("scontrol", "update", f"JobId={times_out}", "EndTime=now+2")
    follower = _follower(here, tmp_path, runs[1])
    assert follower.stdout is not None and follower.stdout.readline() == "start 0\n"
    here.run("scontrol", "requeue", requeued)
    cancel_jobs([f"{array}_2"])
    cancelled = f"{array}_2"
    wait_for(here, lambda: job_statuses([times_out])[times_out].phase is Phase.ENDED, 45, "the time limit")
    found = job_statuses(jobs)
    expected = {times_out: "TIMEOUT", failing: "FAILED", f"{array}_0": "RUNNING", cancelled: "CANCELLED"}
    expected |= {held: "PENDING", "777": "UNKNOWN", "777_1": "UNKNOWN"}
    assert {job: found[job].state for job in expected} == expected
    assert (found[failing].exit_code, found[held].reason, found[f"{array}_0"].nodes[:1]) == (3, "JobHeldUser", "n")
    assert found[requeued].restarts == 1
    assert 0 < (found[f"{array}_0"].left_seconds or 0) < 540 == found[f"{array}_0"].limit_seconds
    _check_study(here, tmp_path, runs)
    assert follower.stdout.readline() == "start 1\n" and follower.poll() is None
    said = prx(here, "cancel", tmp_path, "--run", runs[1], runs[5])
    assert f"train: 2 cancelled: {runs[1]} (job {requeued}), {runs[5]} (job {held})" in said
    assert job_statuses([held])[held].state == "CANCELLED"
    # All of it is printed, also what the shell says when it is killed.
    assert follower.wait(timeout=60) == 0
    follower.stdout.close()


def _logs(folder: Path) -> tuple[str, str]:
    """Options of a job whose logs are named as those of a run are."""
    (folder / "jobs" / "x").mkdir(parents=True)
    return "--output=jobs/x/%j_0_log.out", "--error=jobs/x/%j_0_log.err"


def _follower(here: Cluster, folder: Path, run: str) -> subprocess.Popen[str]:
    """`prx-scale logs --follow`, as it goes on."""
    command = prx_command("logs", run, "--study", str(folder), "--follow", "--stream", "out")
    return subprocess.Popen(command, env={**here.environment, **VARIABLES}, stdout=subprocess.PIPE, text=True)


def _check_study(here: Cluster, folder: Path, runs: list[str]) -> None:
    """What the verbs make of these jobs."""
    content = json.loads(prx(here, "status", folder, "--json"))
    rows = {row["run"]: row for row in content["runs"]}
    states = [rows[run]["state"] for run in runs]
    assert states[0] == states[2] == "failed" and states[3:] == ["running", "cancelled", "waiting", "killed", "killed"]
    assert "TIMEOUT" in rows[runs[0]]["reason"] and "exit code 3" in rows[runs[2]]["reason"]
    assert rows[runs[1]]["restarts"] == 1 and states[1] in ("waiting", "running")
    assert "restart 1" in (rows[runs[1]]["reason"] or "restart 1")
    assert {failure["cause"] for failure in content["failures"]} == {"time limit too short", "unknown"}
    table = prx(here, "status", folder)
    assert "1 run failed: time limit too short" in table and re.search(rf"{runs[5]} .*JobHeldUser", table)
    assert "waits, so there is no log yet: JobHeldUser" in prx(here, "logs", folder / "runs" / runs[5])


@pytest.mark.slow
def test_a_controller_that_is_down_or_without_accounting(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(here, tmp_path, LONG, "--hold")
    (tmp_path / "study.toml").write_text(STUDY)
    run = study.load(tmp_path).runs[0].id
    listed(tmp_path, run, job)
    conf = (here.folder / "slurm.conf").read_text()
    without = tmp_path / "without.conf"
    without.write_text(re.sub(r"(?m)^AccountingStorageType=.*", "AccountingStorageType=accounting_storage/none", conf))
    monkeypatch.setenv("SLURM_CONF", str(without))
    found = job_statuses([job, "777"])
    assert (found[job].state, found["777"].state) == ("PENDING", "UNKNOWN")
    assert "accounting" in found["777"].reason
    down = tmp_path / "down.conf"
    down.write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=9", conf))
    monkeypatch.setenv("SLURM_CONF", str(down))
    status = study_status(tmp_path)
    assert re.match(r"squeue: .*Unable to contact slurm controller", status.warning or "")
    assert status.runs[0].state == "running"


def test_limits_and_opinions(here: Cluster, tmp_path: Path) -> None:
    limits = site_limits()
    assert (limits.max_array_size, limits.max_submit, limits.submitted_now) == (8, None, 0)
    here.run("sacctmgr", "-i", "modify", "user", "root", "where", "account=root", "set", "MaxSubmitJobs=7")
    try:
        submit(here, tmp_path, LONG, "--hold", "--array=0-2")
        limits = site_limits()
        assert (limits.max_submit, limits.submitted_now, limits.room) == (7, 3, 4)
        assert site_limits({"account": "lab"}).max_submit is None
    finally:
        here.run("sacctmgr", "-i", "modify", "user", "root", "where", "account=root", "set", "MaxSubmitJobs=-1")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH -N2 -t 5\ntrue\n")
    assert re.search(r"^Job \d+ to start at .* on nodes n\[1-2\]", controller.test_only(script))
    script.write_text("#!/bin/bash\n#SBATCH -N3 -t 5\ntrue\n")
    with pytest.raises(InputError, match="node configuration is not available"):
        controller.test_only(script)


@pytest.mark.slow
def test_a_thousand_jobs_in_two_seconds(here: Cluster, tmp_path: Path) -> None:
    seeds = ", ".join(map(str, range(125)))
    (tmp_path / "study.toml").write_text(f"{STUDY}seed = [{seeds}]\n")
    runs = study.load(tmp_path).runs
    assert len(runs) == 1000
    for first in range(0, 1000, 8):
        array = submit(here, tmp_path, LONG, "--hold", "--array=0-7")
        records = [
            JobRecord(job=f"{array}_{index}", kind=Kind.TRAIN, executor=Executor.SLURM, run=run.id, logs="x")
            for index, run in enumerate(runs[first : first + 8])
        ]
        note_jobs(tmp_path, records)
    for run in runs:
        record = RunRecord(tmp_path / "runs" / run.id)
        record.write(make_info(run.id, config=run.to_json(), state=State.INTERRUPTED))
        record.append_all([train_row(step) for step in range(10, 100, 10)])
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    table = prx(here, "status", tmp_path)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "1000 waiting" in table and len(table.splitlines()) > 1000
    # Processor time too: others may be at work on this machine.
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert min(seconds, computed) < 2, f"{seconds:.2f} s, of which {computed:.2f} s computing"
