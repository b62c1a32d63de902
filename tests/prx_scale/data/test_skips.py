"""What is left out is counted, listed and bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prx_scale.data.samples import Skip, Skipped
from prx_scale.data.skips import SkipLog
from prx_scale.errors import InputError


def skipped(number: int, shard: str = "a.tar", reason: Skip = Skip.NO_IMAGE) -> Skipped:
    return Skipped(key=f"{shard}/{number}", shard=shard, reason=reason, detail="why")


def test_counts_by_reason_and_shard_and_a_list(tmp_path: Path) -> None:
    with SkipLog(path=tmp_path / "skipped.jsonl", max_skipped=0.9) as log:
        log.add(10, [skipped(1), skipped(2, reason=Skip.CORRUPT_IMAGE), skipped(3, shard="b.tar")])
        log.add(5)
        assert (log.seen, log.skipped, log.share) == (15, 3, 0.2)
        assert log.reasons == {"no image": 2, "corrupt image": 1} and log.shards == {"a.tar": 2, "b.tar": 1}
        assert log.summary() == "data: 3 of 15 samples left out: 2 no image, 1 corrupt image"
        # The list is complete at any moment, also where the process is killed next.
        rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert rows[1] == {"key": "a.tar/2", "shard": "a.tar", "reason": "corrupt image", "detail": "why"}
    assert len(rows) == 3 and SkipLog().summary() == "data: none of 0 samples left out"


def test_too_many_end_the_work_and_name_the_worst_shards(tmp_path: Path) -> None:
    log = SkipLog(path=tmp_path / "s.jsonl", max_skipped=0.05, minimum=100, source="photos/*.tar")
    log.add(99, [skipped(n, shard=f"{n % 2}.tar") for n in range(9)])
    with pytest.raises(InputError) as error:
        log.add(1)
    assert str(error.value) == (
        "photos/*.tar: 9 of 100 samples left out: 9 no image; that is 9.0%, and at most 5.0% may be (max_skipped); "
        f"most of them in 0.tar (5), 1.tar (4); all are listed in {tmp_path}/s.jsonl"
    )


def test_each_sample_is_listed_once_also_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    with SkipLog(path=path, max_skipped=1) as log:
        log.add(3, [skipped(1), skipped(2), skipped(1)])
    whole = path.read_text()
    path.write_text(whole + "neither JSON\n[1]\n" + whole[:20])
    with SkipLog(path=path, max_skipped=1) as log:
        log.add(4, [skipped(2), skipped(2, shard="b.tar"), skipped(2, reason=Skip.CORRUPT_IMAGE), skipped(3)])
        assert log.reasons == {"no image": 3, "corrupt image": 1}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    assert [(row["key"], row["reason"]) for row in rows] == [
        ("a.tar/1", "no image"),
        ("a.tar/2", "no image"),
        ("b.tar/2", "no image"),
        ("a.tar/2", "corrupt image"),
        ("a.tar/3", "no image"),
    ]


def test_a_share_at_the_bound_is_within_it() -> None:
    log = SkipLog(max_skipped=0.05, minimum=1)
    log.add(100, [skipped(n) for n in range(5)])
    with pytest.raises(InputError, match="6 of 101"):
        log.add(1, [skipped(5)])


def test_memory_is_bounded_by_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prx_scale.data.skips._SHARDS", 10)
    log = SkipLog(max_skipped=1.0)
    log.add(3, [skipped(n, shard="worst.tar") for n in range(3)])
    for number in range(500):
        log.add(1, [skipped(0, shard=f"{number}.tar")])
    assert log.skipped == 503 and len(log.shards) <= 20 and log.shards.most_common(1) == [("worst.tar", 3)]
