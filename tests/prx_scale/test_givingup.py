"""When to give up on a run: starts without progress, and too many of them."""

from __future__ import annotations

from pathlib import Path

from prx_scale.attempts import Attempts, Ending
from prx_scale.givingup import counted, fruitless, verdict
from prx_scale.runs.info import State
from tests.prx_scale.clusterjobs import job


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
