"""What a launch submits: arrays by shape of allocation, in parts that the cluster allows, and what follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prx_scale import study
from prx_scale.allocation import Sized
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.jobs import StudyCalls, TrainCall, VerbCall
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from slurm.controller import SiteLimits
from slurm.executor import Place, script
from slurm.jobstatus import JobStatus
from slurm.launching import Launch, decide, unscored
from slurm.ledger import Executor, JobRecord, Kind, Ledger, note_cancelled, note_jobs, read_ledger
from slurm.plan import Action, Again, Jobs, Planned, plan
from tests.prx_scale.runs.records import make_info

STUDY = """
[study]
name = "a sweep: of depths"
[model]
depth = [1, 2, 3]
patch = 4
[training]
steps = 100
batch = 8
seed = [0, 1]
[slurm]
nodes = 1
time = 30
partition = "main"
setup = ["module load cuda"]
srun_args = ["--container-image=a b"]
cpus_per_task = 3
[slurm.depth.3]
nodes = 2
"""
LIMITS = SiteLimits(max_array_size=1001, max_job_count=10_000)


@pytest.fixture
def loaded(tmp_path: Path) -> study.Study:
    (tmp_path / "study.toml").write_text(STUDY)
    return study.load(tmp_path)


def finish(run: RunConfig, folder: Path) -> None:
    """A run that is done, with its last checkpoint."""
    RunRecord(folder).write(make_info(run.id, state=State.DONE))
    checkpoint = folder / "checkpoint" / f"step-{run.training.steps}"
    checkpoint.mkdir(parents=True)
    (checkpoint / ".metadata").touch()


def job(number: str, kind: Kind, run: str | None) -> JobRecord:
    return JobRecord(job=number, kind=kind, executor=Executor.SLURM, run=run, logs=f"jobs/x/{number}")


def status(number: str, state: str) -> JobStatus:
    return JobStatus(job=number, state=state)


def launch(loaded: study.Study, limits: SiteLimits = LIMITS, jobs: Jobs | None = None) -> Launch:
    known = jobs or Jobs(ledger=Ledger(study=loaded.folder))
    planned = plan(loaded.runs, loaded.folder, known)
    calls = StudyCalls(study=loaded.folder, settings=loaded.slurm)
    return decide(loaded, planned, unscored(planned), known, calls, {}, limits)


def test_one_array_for_each_shape_of_allocation(loaded: study.Study) -> None:
    made = launch(loaded)
    assert [(batch.allocation.nodes, len(batch.works)) for batch in made.training] == [(2, 2), (1, 4)]
    # The most expensive run first: it ends last.
    assert (made.training[1].works[0].run or "").startswith("d2")
    assert sorted(made.runs) == sorted(run.id for run in loaded.runs)
    assert sorted(work.run or "" for work in made.evaluations) == sorted(made.runs)
    assert made.report is not None and made.relaunch is None and made.jobs == 6 + 6 + 1
    calls = [work.call for batch in made.training for work in batch.works]
    assert all(isinstance(call, TrainCall) and call.minutes == 30 for call in calls)
    assert made.report.works[0].call == VerbCall(words=("report", str(loaded.folder)))


def test_an_array_is_no_longer_than_the_cluster_allows(loaded: study.Study) -> None:
    made = launch(loaded, replace(LIMITS, max_array_size=3))
    assert [len(batch.works) for batch in made.training] == [2, 3, 1]
    assert len(set(made.runs)) == 6


def test_what_the_limit_of_jobs_leaves_is_launched_by_a_job(loaded: study.Study) -> None:
    # Room for 8: two runs with their evaluations are 4, the report 5, the next launch 6; three would be 8.
    made = launch(loaded, replace(LIMITS, max_submit=10, submitted_now=2))
    assert made.jobs == 8 and len(made.runs) == 3 and len(made.later) == 3
    assert made.relaunch is not None
    assert made.relaunch.works[0].call == VerbCall(words=("sweep", str(loaded.folder), "--executor", "slurm"))
    assert launch(loaded, replace(LIMITS, max_submit=13)).later == ()
    with pytest.raises(InputError, match="allows you 10 jobs and 8 are submitted: no room for a run"):
        launch(loaded, replace(LIMITS, max_submit=10, submitted_now=8))


def test_only_what_is_missing_is_submitted(loaded: study.Study) -> None:
    done, waiting, running, crashed, cancelled, new = (run.id for run in loaded.runs)
    finish(loaded.runs[0], loaded.folder / "runs" / done)
    records = [job(f"9_{n}", Kind.TRAIN, run) for n, run in enumerate((waiting, running, crashed, cancelled))]
    note_jobs(loaded.folder, records)
    note_cancelled(loaded.folder, ["9_3"])
    states = {
        "9_0": status("9_0", "PENDING"),
        "9_1": status("9_1", "RUNNING"),
        "9_2": status("9_2", "OUT_OF_MEMORY"),
        "9_3": status("9_3", "CANCELLED"),
    }
    jobs = Jobs(ledger=read_ledger(loaded.folder), statuses=states)
    planned = {each.run.id: each for each in plan(loaded.runs, loaded.folder, jobs)}
    assert {run: each.action for run, each in planned.items()} == {
        done: Action.SKIP_DONE,
        waiting: Action.LEAVE_WAITING,
        running: Action.LEAVE,
        crashed: Action.SKIP_FAILED,
        cancelled: Action.START,
        new: Action.START,
    }
    assert planned[crashed].reason == "job 9_2 ended: OUT_OF_MEMORY"
    assert plan(loaded.runs, loaded.folder, jobs, Again(jobs={crashed: "9_2"}))[3].action is Action.START
    # Somebody else has given it another job in the meantime.
    assert plan(loaded.runs, loaded.folder, jobs, Again(jobs={crashed: "8"}))[3].action is Action.SKIP_FAILED
    made = launch(loaded, jobs=jobs)
    assert sorted(made.runs) == sorted([cancelled, new])
    # The run that is done has no scores yet.
    assert {work.run for work in made.evaluations} == {cancelled, new, done}


def test_what_follows_an_earlier_launch_is_not_doubled(loaded: study.Study) -> None:
    done = loaded.runs[0].id
    finish(loaded.runs[0], loaded.folder / "runs" / done)
    ledger = Ledger(study=loaded.folder, jobs=(job("5", Kind.EVALUATE, done),))
    for state, scored in (("RUNNING", False), ("FAILED", True)):
        jobs = Jobs(ledger=ledger, statuses={"5": status("5", state)})
        assert (done in {work.run for work in launch(loaded, jobs=jobs).evaluations}) is scored


@pytest.mark.parametrize("dataset", ["store", "images", "random"])
def test_what_cannot_be_scored_is_not_evaluated(loaded: study.Study, dataset: str) -> None:
    done = Planned(run=loaded.runs[0], folder=loaded.folder / "runs" / "x", action=Action.SKIP_DONE)
    finish(done.run, done.folder)
    other = replace(done, run=replace(done.run, data=replace(done.run.data, dataset=dataset)))
    assert unscored([done, other]) == [done.run.id] and unscored([other]) == []


def test_processes_that_a_run_cannot_be_spread_over_are_refused(loaded: study.Study) -> None:
    text = STUDY.replace("[slurm.depth.3]\nnodes = 2", "[slurm.depth.3]\nnodes = 3")
    loaded.file.write_text(text)
    with pytest.raises(InputError, match=r"\[slurm\] d3-s0-\w+: 3 nodes with 1 processes each do not .*batch"):
        launch(study.load(loaded.file))


def test_the_planner_is_asked_only_for_what_is_left_out(loaded: study.Study) -> None:
    loaded.file.write_text(STUDY.replace("nodes = 1\ntime = 30\n", ""))
    again = study.load(loaded.file)
    planned = plan(again.runs, again.folder)
    sizes = {run.id: Sized(nodes=1, minutes=10 * run.model.depth) for run in again.runs}
    calls = StudyCalls(study=again.folder, settings=again.slurm)
    made = decide(again, planned, [], Jobs(ledger=Ledger(study=again.folder)), calls, sizes, LIMITS)
    shapes = [(batch.allocation.nodes, batch.allocation.minutes) for batch in made.training]
    assert shapes == [(2, 30), (1, 20), (1, 10)]


def test_the_batch_script_says_all_that_was_asked(loaded: study.Study) -> None:
    place = Place(
        study=loaded.folder, folder=loaded.folder / "jobs" / "x", code=loaded.folder / "code", python="run python"
    )
    text = script(launch(loaded).training[1], replace(place, array_parallelism=2, signal_seconds=77))
    for line in (
        "#SBATCH --array=0-3%2",
        "#SBATCH --job-name=a-sweep-of-depths-train",
        "#SBATCH --nodes=1",
        "#SBATCH --partition=main",
        "#SBATCH --time=30",
        "#SBATCH --signal=USR2@77",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "module load cuda",
    ):
        assert line in text.splitlines()
    assert text.index("module load cuda") < text.index("export PYTHONPATH=")
    (srun,) = (line for line in text.splitlines() if line.startswith("srun "))
    assert "--cpus-per-task=3" in srun and "'--container-image=a b'" in srun and "run python -u -m submitit" in srun
    assert 'scontrol requeue "$SLURM_JOB_ID"' in text and text.rstrip().endswith('exit "$code"')
    assert "wckey" not in text
    report = launch(loaded).report
    assert report is not None and 'requeue "$SLURM_JOB_ID"' not in script(report, place)


def test_the_list_of_jobs_survives_a_torn_tail(tmp_path: Path) -> None:
    note_jobs(tmp_path, [job("1", Kind.TRAIN, "a")])
    path = tmp_path / "jobs" / "jobs.jsonl"
    with path.open("a") as file:
        file.write('{"job": "2", "kin')
    with pytest.warns(UserWarning, match="cut short"):
        assert [each.job for each in read_ledger(tmp_path).jobs] == ["1"]
    note_jobs(tmp_path, [job("3", Kind.TRAIN, "a")])
    ledger = read_ledger(tmp_path)
    latest = ledger.latest(Kind.TRAIN, "a")
    assert [each.job for each in ledger.jobs] == ["1", "3"] and latest is not None and latest.job == "3"
    row = json.loads(path.read_text().splitlines()[0])
    assert row["user"] and row["host"] and row["submitted"]
    with path.open("a") as file:
        file.write('{"job": "4", "kind": "dance"}\n')
    with pytest.raises(InputError, match=r"jobs.jsonl, line 3: not a job of this version"):
        read_ledger(tmp_path)


def test_the_example_of_depths_15_to_38_is_what_its_page_shows() -> None:
    root = Path(__file__).parents[2]
    example = study.load(root / "examples" / "slurm" / "study.toml")
    asked = {run.model.depth: example.slurm.training(run.model.depth, None) for run in example.runs}
    assert {depth: (each.nodes, each.gpus_per_node) for depth, each in asked.items()} == {
        15: (1, 8),
        18: (1, 8),
        24: (2, 8),
        30: (8, 8),
        38: (8, 8),
    }
    page = (root / "docs" / "slurm.md").read_text(encoding="utf-8")
    shown = page.split("in short:", 1)[1].split("```toml\n", 1)[1].split("```", 1)[0]
    lines = (root / "examples" / "slurm" / "study.toml").read_text(encoding="utf-8").splitlines()
    assert [line for line in shown.splitlines() if line and line not in lines] == []
    assert len(launch(example).training) == 3
