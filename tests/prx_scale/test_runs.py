"""The run record: what is written is read back, torn tails are survived, no step stands twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale import runs
from prx_scale.errors import InputError
from prx_scale.runs import Parameters, RunInfo, RunRecord, State, TrainRow, ValidationRow


def make_info(run: str = "d1-s0-00000000", **changes: object) -> RunInfo:
    fields: dict[str, object] = {
        "run": run,
        "study": "test",
        "variant": "base",
        "state": State.RUNNING,
        "config": {"training": {"batch": 4}},
        "depth": 1,
        "seed": 0,
        "parameters": Parameters(backbone=10, embedding=5, by_part={"blocks": 10, "patch_embed": 5}),
        "flops_per_sample": 7,
        "tokens_per_sample": 16,
        "versions": {"python": "3"},
        "device": "cpu",
        "world_size": 1,
        "steps": 100,
        "created": runs.now(),
        "updated": runs.now(),
    }
    return RunInfo(**{**fields, **changes})  # type: ignore[arg-type]


def train_row(step: int, loss: float = 0.5) -> TrainRow:
    return TrainRow(
        step=step,
        samples=4 * step,
        tokens=64 * step,
        flops=28.0 * step,
        loss=loss,
        lr=1e-3,
        grad_norm=0.1,
        samples_per_second=9.0,
        mfu=None,
        memory_gib=0.5,
        time=runs.now(),
    )


def validation_row(step: int, weights: runs.Weights = "ema", loss: float = 0.5) -> ValidationRow:
    return ValidationRow(
        step=step,
        samples=4 * step,
        tokens=64 * step,
        flops=28.0 * step,
        weights=weights,
        split="heldout",
        loss=loss,
        levels=[0.5, 1.0],
        loss_per_level=[loss, 1.0],
        n=8,
    )


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    record = RunRecord(tmp_path / "runs" / "d1-s0-00000000")
    record.write(make_info())
    return record


def test_run_json_round_trip(record: RunRecord) -> None:
    info = record.read()
    assert info == make_info(created=info.created, updated=info.updated)
    assert json.loads(record.info_path.read_text())["parameters"]["total"] == 15


def test_update_keeps_the_rest(record: RunRecord) -> None:
    record.update(state=State.FAILED, reason="why", last_good_step=3)
    info = record.read()
    assert (info.state, info.reason, info.last_good_step, info.depth) == (State.FAILED, "why", 3, 1)


def test_frame_has_run_columns_first(record: RunRecord, tmp_path: Path) -> None:
    record.append_all([validation_row(10, "raw", 0.6), validation_row(10, "ema", 0.5)])
    frame = runs.load(tmp_path)
    assert frame.columns[:7] == ["study", "run", "variant", "depth", "seed", "state", "params"]
    assert frame.columns == list(runs.frame_schema("validation"))
    assert frame["loss"].to_list() == [0.6, 0.5]
    assert frame["loss_per_level"].to_list() == [[0.6, 1.0], [0.5, 1.0]]
    assert frame["params"].to_list() == [10, 10]
    assert frame["params_total"].to_list() == [15, 15]


def test_empty_tables_have_their_columns(record: RunRecord, tmp_path: Path) -> None:
    for table in runs.TABLES:
        frame = runs.load(tmp_path, table)
        assert frame.is_empty()
        assert frame.columns == list(runs.frame_schema(table))


@given(cut=st.integers(min_value=1, max_value=400))
def test_torn_tail_is_skipped_with_a_warning(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    record = RunRecord(tmp_path_factory.mktemp("study") / "run")
    record.append_all([train_row(step) for step in (1, 2, 3)])
    path = record.path("train")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - min(cut, len(whole) - 1)])
    left = path.read_bytes()
    complete = left.count(b"\n")
    torn = left.split(b"\n")[-1]
    parses = torn.endswith(b"}")
    if torn and not parses:
        with pytest.warns(UserWarning, match="cut short"):
            rows = runs.read_rows(path)
    else:
        rows = runs.read_rows(path)
    assert len(rows) == complete + (1 if torn and parses else 0)


def test_damage_in_the_middle_is_an_error(record: RunRecord) -> None:
    record.append_all([train_row(1), train_row(2)])
    path = record.path("train")
    path.write_text("{not json\n" + path.read_text())
    with pytest.raises(InputError, match=r"train\.jsonl, line 1"):
        runs.read_rows(path)


def test_drop_after_removes_later_rows_and_torn_tail(record: RunRecord) -> None:
    record.append_all([train_row(step) for step in (1, 2, 3, 4)])
    record.append_all([validation_row(2), validation_row(4)])
    with record.path("train").open("a") as file:
        file.write('{"step": 5, "los')
    record.drop_after(2)
    assert [row["step"] for row in runs.read_rows(record.path("train"))] == [1, 2]
    assert [row["step"] for row in runs.read_rows(record.path("validation"))] == [2]


def test_failed_run_counts_up_to_its_last_good_step(record: RunRecord, tmp_path: Path) -> None:
    record.append_all([validation_row(10), validation_row(20)])
    record.update(state=State.FAILED, last_good_step=15)
    assert runs.load(tmp_path)["step"].to_list() == [10]


def test_load_takes_study_runs_or_run_folder(record: RunRecord, tmp_path: Path) -> None:
    record.append(validation_row(10))
    for path in (tmp_path, tmp_path / "runs", record.folder):
        assert len(runs.load(path)) == 1
    assert len(runs.load([record.folder, record.folder])) == 2


@pytest.mark.parametrize("content", ["{}", '{"schema": 2}', '{"schema": 1, "run": "x"}', "not json"])
def test_damaged_run_json_names_the_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json"):
        runs.load_runs(tmp_path)


def test_missing_folder_and_empty_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        runs.load(tmp_path / "absent")
    with pytest.raises(InputError, match="no runs here"):
        runs.load(tmp_path)


def test_write_atomically_leaves_no_partial_file(tmp_path: Path) -> None:
    runs.write_atomically(tmp_path / "a" / "b.txt", "x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
