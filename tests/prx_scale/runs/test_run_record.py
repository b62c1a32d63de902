"""The run record: what is written is read back, no step stands twice."""

from __future__ import annotations

import json

from prx_scale.runs.files import read_rows
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from tests.prx_scale.runs.records import make_info, train_row, validation_row


def test_run_json_round_trip(record: RunRecord) -> None:
    info = record.read()
    assert info == make_info(created=info.created, updated=info.updated)
    assert json.loads(record.info_path.read_text())["parameters"]["total"] == 15


def test_update_keeps_the_rest(record: RunRecord) -> None:
    record.update(state=State.FAILED, reason="why", last_good_step=3)
    info = record.read()
    assert (info.state, info.reason, info.last_good_step, info.depth) == (State.FAILED, "why", 3, 1)


def test_drop_after_removes_later_rows_and_torn_tail(record: RunRecord) -> None:
    record.append_all([train_row(step) for step in (1, 2, 3, 4)])
    record.append_all([validation_row(2), validation_row(4)])
    with record.path("train").open("a") as file:
        file.write('{"step": 5, "los')
    record.drop_after(2)
    assert [row["step"] for row in read_rows(record.path("train"))] == [1, 2]
    assert [row["step"] for row in read_rows(record.path("validation"))] == [2]
