"""Whose a run is, and that another's start is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from prx_scale.owner import Fence, Superseded, owner_path, read_owner, take, take_from_jobs
from tests.prx_scale.test_attempts import job


def test_the_last_to_start_owns_the_run(tmp_path: Path) -> None:
    first = take(tmp_path, job(0))
    peer = Fence(tmp_path, job(0))  # another process of the same job, which does not know the token
    for fence in (first, peer):
        fence.check()
        assert not fence.lost()
    take(tmp_path, job(1))
    for fence in (first, peer):
        assert fence.lost()
        with pytest.raises(Superseded, match=r"job 12_3 \(restart 1, on .*\) has taken this run over; job 12_3 writes"):
            fence.check()


def test_two_starts_under_one_name_are_two(tmp_path: Path) -> None:
    first = take(tmp_path, job(0))
    second = take(tmp_path, job(0))
    assert first.lost() and not second.lost()


def test_a_start_by_hand_takes_the_run_from_its_job(tmp_path: Path) -> None:
    take_from_jobs(tmp_path)  # there was none
    fence = take(tmp_path, job(0))
    take_from_jobs(tmp_path)
    assert read_owner(tmp_path) is None
    with pytest.raises(Superseded, match="a start outside a job has taken this run over"):
        fence.check()


def test_outside_a_job_nothing_is_fenced(tmp_path: Path) -> None:
    take(tmp_path, job(0))
    assert not Fence(tmp_path, None).lost()


def test_what_names_nobody_is_nobodys(tmp_path: Path) -> None:
    fence = take(tmp_path, job(0))
    owner_path(tmp_path).write_text('{"job": "12_3"')
    assert read_owner(tmp_path) is None
    assert fence.lost()
