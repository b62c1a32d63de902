"""How often a run was started, and how each start ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prx_scale.attempts import Attempts, End, Ending, Retry, Start
from prx_scale.errors import InputError
from prx_scale.runs.info import State
from tests.prx_scale.clusterjobs import job


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    assert attempts.rows() == []
    attempts.start(None, 1, 0)
    attempts.end(State.INTERRUPTED, 40, Ending.SIGNAL, "asked to stop by SIGINT")
    attempts.start(job(2, hosts=("n1", "n2")), 16, 40)
    attempts.retry()
    first, end, second, retry = attempts.rows()
    assert isinstance(first, Start) and (first.attempt, first.executor, first.job) == (1, "local", None)
    assert len(first.hosts) == 1
    assert isinstance(end, End) and (end.attempt, end.state, end.step, end.cause) == (1, "interrupted", 40, "signal")
    assert isinstance(second, Start) and second.hosts == ("n1", "n2")
    assert (second.attempt, second.executor, second.job, second.restart) == (2, "slurm", "12_3", 2)
    assert (second.world_size, second.from_step) == (16, 40)
    assert isinstance(retry, Retry) and retry.time


def test_a_torn_tail_is_skipped_and_does_not_spoil_the_next_row(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.start(job(), 1, 0)
    with attempts.path.open("a") as file:
        file.write('{"event": "end", "att')
    with pytest.warns(UserWarning, match="cut short"):
        assert len(attempts.rows()) == 1
    attempts.retry()
    assert [type(row) for row in attempts.rows()] == [Start, Retry]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"event": "pause"}, "line 1: 'event' is 'pause'; this version knows start, end, retry"),
        (
            {"event": "end", "attempt": 1, "state": "done", "step": 1, "cause": "bored", "reason": None, "time": ""},
            "bored",
        ),
        ({"event": "start", "attempt": 1}, "line 1: not an attempt of this version"),
    ],
)
def test_rows_of_another_version_are_refused(row: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        Attempts(tmp_path).rows()


def test_who_takes_over_notes_the_end_of_who_went_on(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.superseded(job(1))
    assert attempts.rows() == []
    attempts.start(job(0), 1, 40)
    attempts.superseded(job(1))
    attempts.superseded(job(2))  # it has an end by now
    _, end = attempts.rows()
    assert isinstance(end, End) and (end.attempt, end.cause, end.step) == (1, Ending.SUPERSEDED, 40)
    assert end.reason == "job 12_3 (restart 1) took the run over"
