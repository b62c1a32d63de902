"""How often a run was started, what a signal meant, and when to give up."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from prx_scale.attempts import (
    Attempts,
    End,
    Ending,
    Job,
    Retry,
    Start,
    counted,
    fruitless,
    signal_cause,
    signal_reason,
    verdict,
)
from prx_scale.errors import InputError
from prx_scale.runs.info import State


def job(restart: int = 0, **changes: object) -> Job:
    fields = {
        "id": "12_3",
        "limit_seconds": 300.0,
        "signal_seconds": 90.0,
        "max_restarts": 20,
        "max_fruitless": 3,
        "started": 0.0,
        **changes,
    }
    return Job(restart=restart, **fields)  # type: ignore[arg-type]


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


def test_starts_from_the_same_checkpoint_are_counted(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    for step in (0, 200, 200):
        attempts.start(job(), 1, step)
    assert [fruitless(counted(attempts.rows()), step) for step in (0, 200, 400)] == [0, 2, 0]
    assert verdict(attempts.rows(), job(), 200) is None
    attempts.start(job(), 1, 200)
    attempts.end(State.INTERRUPTED, 230, Ending.PEER_DIED, "rank 3 died")
    said = "started 3 times from step 200 without reaching a new checkpoint; the last one ended: rank 3 died"
    assert verdict(attempts.rows(), job(), 200) == said
    assert verdict(attempts.rows(), job(), 230) is None
    attempts.retry()
    assert verdict(attempts.rows(), job(), 200) is None


def test_a_start_without_an_end_was_killed(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.start(job(), 1, 0)
    assert str(verdict(attempts.rows(), job(max_fruitless=1), 0)).endswith(
        "the last one ended: killed: its end was not recorded"
    )


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


def test_starts_outside_jobs_do_not_count_against_jobs(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    for _ in range(5):
        attempts.start(None, 1, 0)
    assert verdict(attempts.rows(), job(max_restarts=0), 0) is None


def test_restarts_are_bounded_and_told_by_cause(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    assert verdict(attempts.rows(), job(max_restarts=0), 0) is None
    for step in range(31):
        assert verdict(attempts.rows(), job(max_restarts=30), step) is None
        attempts.start(job(step), 1, step)
        if step % 10 != 9:
            attempts.end(State.INTERRUPTED, step + 1, Ending.PREEMPTED, "preempted")
    said = "preempted too often: 31 restarts, 28 of them preemptions; raise [slurm] max_restarts or use prx-scale retry"
    assert verdict(attempts.rows(), job(max_restarts=30), 31) == said
    attempts.retry()
    assert verdict(attempts.rows(), job(max_restarts=30), 31) is None


def test_restarts_for_other_reasons_are_not_called_preemptions(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    for step in (0, 10, 20):
        attempts.start(job(), 1, step)
        if step:
            attempts.end(State.INTERRUPTED, step + 10, Ending.TIME_LIMIT, "time limit")
    said = str(verdict(attempts.rows(), job(max_restarts=2), 30))
    assert said.startswith("restarted too often: 3 restarts, after 2 time-limit, 1 killed; raise [slurm] max_restarts")


@pytest.mark.parametrize(
    ("number", "limit", "seconds", "cause"),
    [
        # Five minutes, of which a minute ran: submitit would call it timed out.
        (signal.SIGUSR2, 300.0, 60.0, Ending.PREEMPTED),
        (signal.SIGUSR2, 300.0, 144.0, Ending.PREEMPTED),
        (signal.SIGUSR2, 300.0, 145.0, Ending.TIME_LIMIT),
        (signal.SIGUSR2, 300.0, 210.0, Ending.TIME_LIMIT),
        (signal.SIGUSR2, 4 * 3600.0, 3 * 3600.0, Ending.PREEMPTED),
        (signal.SIGUSR2, None, 1e6, Ending.PREEMPTED),
        (signal.SIGTERM, 300.0, 210.0, Ending.PREEMPTED),
        (signal.SIGTERM, 300.0, 299.0, Ending.TIME_LIMIT),
        (signal.SIGINT, 300.0, 299.0, Ending.SIGNAL),
    ],
)
def test_only_near_the_limit_is_a_signal_the_limit(
    number: int, limit: float | None, seconds: float, cause: Ending
) -> None:
    assert signal_cause(number, job(limit_seconds=limit), seconds) is cause
    assert signal_cause(number, None, seconds) is Ending.SIGNAL


def test_causes_are_told_in_words() -> None:
    of = job(limit_seconds=4 * 3600.0)
    assert signal_reason(signal.SIGUSR2, of, 3605).startswith("preempted: SIGUSR2 after 1:00:05; ")
    assert signal_reason(signal.SIGTERM, of, 60).startswith("preempted or cancelled: SIGTERM after 0:01:00; ")
    assert signal_reason(signal.SIGUSR2, of, 4 * 3600 - 90).startswith("time limit of 4:00:00: SIGUSR2 after 3:58:30; ")
    assert signal_reason(signal.SIGTERM, None, 60) == "asked to stop by SIGTERM; the same command goes on from here"
