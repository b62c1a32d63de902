"""What a launch does with each run, and how runs stand, from records alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from prx_scale import study
from prx_scale.errors import InputError
from prx_scale.locks import is_held, only_one
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from slurm.plan import Action, plan
from slurm.status import last_row, study_status
from tests.prx_scale.runs.records import make_info, train_row

STUDY = '[study]\nname = "s"\n[model]\ndepth = [1, 2, 3, 4, 5]\npatch = 4\n[training]\nsteps = 100\n'


@pytest.fixture
def loaded(tmp_path: Path) -> study.Study:
    (tmp_path / "study.toml").write_text(STUDY)
    return study.load(tmp_path)


def test_only_what_is_missing_is_launched(loaded: study.Study) -> None:
    states = [State.DONE, State.FAILED, State.INTERRUPTED, State.RUNNING]
    for run, state in zip(loaded.runs, states, strict=False):
        record = RunRecord(loaded.folder / "runs" / run.id)
        record.write(make_info(run.id, state=state, reason="why" if state is State.FAILED else None))
    planned = plan(loaded.runs, loaded.folder)
    # A run recorded as running whose process is gone was killed: it is resumed.
    expected = [Action.SKIP_DONE, Action.SKIP_FAILED, Action.RESUME, Action.RESUME, Action.START]
    assert [each.action for each in planned] == expected
    assert [each.due for each in planned] == [False, False, True, True, True]
    assert planned[1].reason == "why"


def test_a_run_that_a_process_works_on_is_left_alone(loaded: study.Study) -> None:
    with only_one(loaded.folder / "runs" / loaded.runs[0].id):
        assert plan(loaded.runs, loaded.folder)[0].action is Action.LEAVE
    assert plan(loaded.runs, loaded.folder)[0].action is Action.START


def test_lock_is_exclusive_and_given_back(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with only_one(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(InputError, match="another process is working on it"), only_one(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_status_tells_killed_from_running(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "d1-s0-00000000"
    record = RunRecord(folder)
    record.write(make_info())
    record.append(train_row(40))
    (killed,) = study_status(tmp_path).runs
    assert (killed.state, killed.step, killed.steps, killed.seconds_left) == ("killed", 40, 100, None)
    with only_one(folder):
        (running,) = study_status(tmp_path).runs
    assert running.state == "running"
    assert running.seconds_left == pytest.approx(60 * 4 / 9.0)
    assert json.loads(json.dumps(running.to_json()))["loss"] == 0.5


def test_last_row_skips_a_torn_tail_and_reads_only_the_end(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    assert last_row(path) is None
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert last_row(path) == {"step": 2}
    path.write_text("".join(f'{{"step": {step}, "pad": "{"x" * 50}"}}\n' for step in range(100_000)))
    start = time.perf_counter()
    row = last_row(path)
    assert row is not None and row["step"] == 99_999
    assert time.perf_counter() - start < 0.05


def test_status_of_many_runs_is_quick(tmp_path: Path) -> None:
    for number in range(300):
        record = RunRecord(tmp_path / "runs" / f"d1-s{number}-00000000")
        record.write(make_info(f"d1-s{number}-00000000", seed=number))
        record.append(train_row(3))
    start = time.perf_counter()
    assert len(study_status(tmp_path).runs) == 300
    assert time.perf_counter() - start < 2


def test_status_shows_what_has_not_started(loaded: study.Study) -> None:
    assert [status.state for status in study_status(loaded.folder).runs] == ["pending"] * 5
    RunRecord(loaded.folder / "runs" / loaded.runs[1].id).write(make_info(loaded.runs[1].id, state=State.DONE))
    statuses = study_status(loaded.folder).runs
    assert sorted(status.run for status in statuses) == sorted(run.id for run in loaded.runs)
    assert [status.state for status in statuses] == ["done"] + ["pending"] * 4


def test_status_without_runs_or_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs here"):
        study_status(tmp_path)
