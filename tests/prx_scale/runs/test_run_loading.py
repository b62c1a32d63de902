"""Runs of studies as one frame: its columns, which rows are in it, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from prx_scale import runs
from prx_scale.errors import InputError
from prx_scale.runs.info import State
from prx_scale.runs.loading import frame_schema
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import TABLES
from tests.prx_scale.runs.records import validation_row


def test_frame_has_run_columns_first(record: RunRecord, tmp_path: Path) -> None:
    record.append_all([validation_row(10, "raw", 0.6), validation_row(10, "ema", 0.5)])
    frame = runs.load(tmp_path)
    assert frame.columns[:7] == ["study", "run", "variant", "depth", "seed", "state", "params"]
    assert frame.columns == list(frame_schema("validation"))
    assert frame["loss"].to_list() == [0.6, 0.5]
    assert frame["loss_per_level"].to_list() == [[0.6, 1.0], [0.5, 1.0]]
    assert frame["params"].to_list() == [10, 10]
    assert frame["params_total"].to_list() == [15, 15]


def test_empty_tables_have_their_columns(record: RunRecord, tmp_path: Path) -> None:
    for table in TABLES:
        frame = runs.load(tmp_path, table)
        assert frame.is_empty()
        assert frame.columns == list(frame_schema(table))


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
