"""Scoring shard by shard: what is scored stays, what is missing is added, and the outcome is always the same."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale.data.decode import decode
from prx_scale.data.filters.base import Caption, Columns, Scorer, Seen
from prx_scale.data.filters.phash import ENOUGH, perceptual_hash
from prx_scale.data.filters.plain import PlainScorer, hash_scorer, length_scorer, size_scorer, source_scorer
from prx_scale.data.filters.scoretable import Scores, part_path, scored_by, write_frame
from prx_scale.data.filters.scoring import score
from prx_scale.data.samples import RawSample
from prx_scale.data.sources import Fields, Source, open_source
from prx_scale.errors import InputError
from tests.prx_scale.data.filter_data import FIELDS, GARBAGE, TRUNCATED, picture, scored, write_shards
from tests.prx_scale.data.made import encoded, write_tar


class Counted(Scorer):
    """The mean of the pixels; counts what it is given."""

    name = "mean"

    def __init__(self, version: int = 1, stop_after: int = 10**9) -> None:
        self.columns = {"mean": "float"}
        self.prepare = _Mean()
        self.identity = {"scorer": "mean", "version": version}
        self.version, self.seen, self.stop_after = version, 0, stop_after

    def score(self, prepared: list[float]) -> Columns:
        self.seen += len(prepared)
        if self.seen > self.stop_after:
            raise KeyboardInterrupt
        return {"mean": [self.version * each for each in prepared]}


class _Mean:
    side = 32

    def __call__(self, seen: Seen) -> float:
        assert seen.pixels is not None
        return float(seen.pixels.mean())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def source(shards: Path) -> Source:
    return open_source(str(shards / "*.tar"), FIELDS)


def all_rows(scores: Scores) -> pl.DataFrame:
    return pl.concat([frame for _, _, frame in scores.frames()])


def usual() -> list[Scorer]:
    return [size_scorer(), length_scorer(Caption()), source_scorer(FIELDS.scores), hash_scorer()]


def test_every_place_has_a_row_and_the_right_scores(source: Source, tmp_path: Path) -> None:
    scores = scored(source, usual(), tmp_path / "scores")
    frame = all_rows(scores)
    assert frame["key"].to_list() == [f"{s:03d}.tar/{p:05d}" for s in range(3) for p in range(20)]
    assert frame["shard"].to_list() == [f"{s:03d}.tar" for s in range(3) for _ in range(20)]
    assert frame["place"].to_list() == list(range(20)) * 3
    skipped = frame.filter(pl.col("skipped").is_not_null())
    assert (
        skipped.select("place", "skipped").rows()
        == [
            (TRUNCATED, "truncated image"),
            (GARBAGE, "unknown format"),
        ]
        * 3
    )
    assert skipped.drop("key", "shard", "place", "skipped", "detail").null_count().sum_horizontal().item() == 6 * 12
    for number, item in enumerate(item for shard in range(3) for item in source.samples(shard)):
        row = frame.row(number, named=True)
        if row["skipped"] is None:
            assert isinstance(item, RawSample)
            pixels = decode(item, at_least=(ENOUGH, ENOUGH))
            assert isinstance(pixels, np.ndarray)
            assert (row["height"], row["width"], row["phash"]) == (*pixels.shape[:2], perceptual_hash(pixels))
            assert row["caption_words"] == len(item.captions["original"].split()) == row["place"] + 1
            assert row["watermark"] == item.scores.get("watermark") and row["cluster"] == row["place"] % 4


def test_what_is_scored_is_not_scored_again(source: Source, tmp_path: Path) -> None:
    first, told = Counted(), list[tuple[int, int]]()
    score(source, [size_scorer(), first], tmp_path / "s", show=lambda *counts: told.append(counts))
    assert first.seen == 3 * 18 and np.sum(told, axis=0).tolist() == [60, 60]
    before = [part_path(tmp_path / "s", shard).stat().st_mtime_ns for shard in range(3)]
    again = Counted()
    score(source, [size_scorer(), again], tmp_path / "s", show=lambda *counts: told.append(counts))
    assert again.seen == 0 and np.sum(told, axis=0).tolist() == [120, 60]
    assert [part_path(tmp_path / "s", shard).stat().st_mtime_ns for shard in range(3)] == before


def test_a_new_scorer_alone_is_given_what_is_scored_already(source: Source, tmp_path: Path) -> None:
    whole = scored(source, [*usual(), Counted()], tmp_path / "whole")
    scored(source, usual(), tmp_path / "added")
    extra = Counted()
    added = scored(source, [*usual(), extra], tmp_path / "added")
    assert extra.seen == 3 * 18
    assert all_rows(whole).equals(all_rows(added))


def test_a_scorer_that_changed_scores_anew(source: Source, tmp_path: Path) -> None:
    before = scored(source, [size_scorer(), Counted()], tmp_path / "s").numbers("mean")
    changed = Counted(version=2)
    after = scored(source, [size_scorer(), changed], tmp_path / "s").numbers("mean")
    assert changed.seen == 3 * 18
    assert np.array_equal(after, 2 * before, equal_nan=True)


def test_a_scorer_whose_score_was_taken_over_scores_anew(source: Source, tmp_path: Path) -> None:
    def lengths(name: str) -> Scorer:
        return PlainScorer(name, {"mean": "float"}, _Height())

    mine = scored(source, [Counted()], tmp_path / "s").numbers("mean")
    other = scored(source, [lengths("height of mine")], tmp_path / "s").numbers("mean")
    assert not np.array_equal(mine, other, equal_nan=True)
    assert list(scored_by(part_path(tmp_path / "s", 0), 20)) == ["height of mine"]
    assert np.array_equal(scored(source, [Counted()], tmp_path / "s").numbers("mean"), mine, equal_nan=True)


class _Height:
    side = 0

    def __call__(self, seen: Seen) -> tuple[int]:
        return (seen.size[0],)


def test_images_found_damaged_later_lose_their_scores(source: Source, tmp_path: Path) -> None:
    """The head of a truncated file is whole: only who decodes it notices."""
    heads = scored(source, [size_scorer()], tmp_path / "s")
    assert heads.column("skipped").is_not_null().sum() == 3
    bodies = scored(source, [size_scorer(), Counted()], tmp_path / "s")
    assert bodies.column("skipped").is_not_null().sum() == 6
    assert bodies.column("height").is_null().to_list() == bodies.column("skipped").is_not_null().to_list()


def test_stopped_and_started_again_is_as_never_stopped(source: Source, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(source, [size_scorer(), Counted(stop_after=30)], tmp_path / "s")
    assert [part_path(tmp_path / "s", shard).exists() for shard in range(3)] == [True, False, False]
    rest = Counted()
    stopped = scored(source, [size_scorer(), rest], tmp_path / "s")
    assert rest.seen == 2 * 18
    whole = scored(source, [size_scorer(), Counted()], tmp_path / "w")
    assert all_rows(stopped).equals(all_rows(whole))
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("damage", ["cut", "text", "rows"])
def test_a_damaged_file_of_scores_is_made_again(source: Source, tmp_path: Path, damage: str) -> None:
    scored(source, [size_scorer(), Counted()], tmp_path / "s")
    path = part_path(tmp_path / "s", 1)
    whole = pl.read_parquet(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "text":
        path.write_text("none")
    else:
        whole.head(7).write_parquet(path, metadata=pl.read_parquet_metadata(path))
    again = Counted()
    scored(source, [size_scorer(), again], tmp_path / "s")
    assert again.seen == 18 and pl.read_parquet(path).equals(whole)


def test_parts_of_several_machines_make_the_whole(source: Source, tmp_path: Path) -> None:
    for part in (2, 0, 1):
        own = Counted()
        score(source, [size_scorer(), own], tmp_path / "s", part=(part, 3))
        assert own.seen == 18
    scores = scored(source, [size_scorer(), Counted(stop_after=0)], tmp_path / "s")
    scores.check({"size": size_scorer().hash, "mean": Counted().hash})
    with pytest.raises(InputError, match=r"000000.parquet: shard 000.tar has no scores of mean"):
        scores.check({"mean": Counted(version=2).hash})


def test_several_processes_give_what_one_does(source: Source, tmp_path: Path) -> None:
    one, several = (scored(source, usual(), tmp_path / f"s{n}", workers=n) for n in (1, 3))
    assert all_rows(one).equals(all_rows(several))


def test_scores_of_other_data_are_not_mixed_in(source: Source, tmp_path: Path) -> None:
    scored(source, [size_scorer()], tmp_path / "out" / "scores")
    other = open_source(str(write_shards(tmp_path / "other", shards=2, each=5)))
    with pytest.raises(InputError, match=r"out: has scores of other data, .*\*.tar; name another --out for .*other"):
        scored(other, [size_scorer()], tmp_path / "out" / "scores")


def test_scores_under_other_names_are_not_mixed_in(source: Source, tmp_path: Path) -> None:
    score(source, [size_scorer()], tmp_path / "out" / "scores", fields=FIELDS)
    for other, words in ((Fields(need_caption=False), "need_caption"), (Fields(key="json.id"), "key")):
        with pytest.raises(InputError, match=f"another {words}"):
            score(source, [size_scorer()], tmp_path / "out" / "scores", fields=other)


def test_a_damaged_note_of_the_source_is_told(source: Source, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "source.json").write_text("{")
    with pytest.raises(InputError, match=r"source.json: damaged .* name another --out"):
        score(source, [size_scorer()], tmp_path / "s")


class _Dies:
    side = 0

    def __call__(self, seen: Seen) -> tuple[int]:
        if seen.sample.key == "001.tar/00007":
            os._exit(9)
        return (1,)


def test_a_process_that_dies_is_told_and_what_was_scored_stays(source: Source, tmp_path: Path) -> None:
    dying = PlainScorer("dying", {"one": "int"}, _Dies())
    with pytest.raises(InputError, match=r"a process that decodes images died .* fewer --workers"):
        score(source, [dying], tmp_path / "s", workers=2)
    sound = PlainScorer("dying", {"one": "int"}, _Height())
    assert scored(source, [sound], tmp_path / "s").column("one").null_count() == 3


def test_scores_do_not_depend_on_who_else_scores(tmp_path: Path) -> None:
    """A large JPEG is decoded at several fractions, each scorer having its own."""
    data = encoded(picture(5, 1100, 1040), quality=90)
    source = open_source(str(write_tar(tmp_path / "0.tar", [("a.jpg", data), ("a.txt", b"a")])))
    alone = [scored(source, [each], tmp_path / f"alone-{each.name}") for each in (hash_scorer(), Counted())]
    both = scored(source, [hash_scorer(), Counted()], tmp_path / "both")
    assert both.column("phash").equals(alone[0].column("phash"))
    assert both.numbers("mean") == alone[1].numbers("mean")


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Beyond RLIMIT_FSIZE the system refuses as it does on a full disk."""
    frame = pl.DataFrame({"a": np.random.default_rng(0).random(50_000)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"a.parquet: cannot be written \(.*File too large"):
            write_frame(tmp_path / "a.parquet", frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
