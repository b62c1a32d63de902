"""What is kept and why, against a plain reckoning of the same table; what is written, and how it is read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prx_scale.data.filters import Manifest
from prx_scale.data.filters.base import Caption
from prx_scale.data.filters.examples import EACH, MOST, examples, nearest
from prx_scale.data.filters.spreads import BINS, bin_edges, is_logarithmic
from prx_scale.data.filters.summary import summarise
from prx_scale.data.filters.writing import Result, write_result
from prx_scale.data.samples import RawSample
from prx_scale.data.sources import open_source
from prx_scale.errors import InputError
from tests.prx_scale.data.filter_data import COPY, CUTS, filtered, write_shards

SKIPPED = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("filter")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return filtered(folder, weights=("caption_words>=q0.5:3", "inverse:cluster"))


@pytest.fixture(scope="module")
def written(folder: Path, result: Result) -> tuple[Manifest, pl.DataFrame]:
    write_result(result, folder / "out")
    manifest = Manifest.open(folder / "out")
    return manifest, manifest.table().collect()


def reckoned(table: pl.DataFrame) -> list[pl.Series]:
    """What each cut removes, by polars from the written table."""
    usable = table.filter(pl.col("skipped").is_null())
    third = usable["min_side"].quantile(0.3, "linear")
    conditions = (
        pl.col("caption_words") >= 4,
        pl.col("watermark").is_null() | (pl.col("watermark") < 0.8),
        pl.col("duplicate_of").is_null(),
        pl.col("min_side") >= third,
    )
    return [table.select(pl.col("skipped").is_null() & ~each).to_series() for each in conditions]


def test_counts_are_those_of_a_plain_reckoning(written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, table = written
    removed = reckoned(table)
    together = sum(each.cast(pl.Int64) for each in removed)
    gone = pl.Series([False] * len(table))
    for cut, mask in zip(manifest.info["cuts"], removed, strict=True):
        assert cut["alone"] == mask.sum() > 0
        assert cut["first"] == (mask & ~gone).sum()
        assert cut["only"] == (mask & (together == 1)).sum()
        gone = gone | mask
    assert manifest.info["overlaps"] == [[(a & b).sum() for b in removed] for a in removed]
    counts = manifest.info["counts"]
    assert counts["kept"] == manifest.kept == 60 - SKIPPED - gone.sum() > 0
    assert (counts["samples"], counts["skipped"], counts["removed"]) == (60, SKIPPED, gone.sum())
    assert counts["skipped_by_reason"] == {"truncated image": 3, "unknown format": 3}
    assert manifest.info["cuts"][1]["missing"] == table["watermark"].null_count() - SKIPPED > 0


def test_every_row_says_what_removed_it_first(written: tuple[Manifest, pl.DataFrame]) -> None:
    _, table = written
    removed = reckoned(table)
    for number, row in enumerate(table.iter_rows(named=True)):
        failed = [cut for cut, mask in zip(CUTS, removed, strict=True) if mask[number]]
        expected = f"skipped: {row['skipped']}" if row["skipped"] else failed[0] if failed else None
        assert row["reason"] == expected and row["keep"] == (expected is None)
        assert (row["weight"] > 0) == row["keep"]


def test_weights_are_one_on_average_over_what_is_kept(result: Result, written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, table = written
    kept = table.filter("keep")
    assert kept["weight"].mean() == pytest.approx(1, rel=1e-6)
    half = kept["caption_words"].quantile(0.5, "linear")
    counts = dict(kept["cluster"].value_counts().iter_rows())
    raw = [(3 if row["caption_words"] >= half else 1) / counts[row["cluster"]] for row in kept.iter_rows(named=True)]
    assert kept["weight"].to_list() == pytest.approx([each / np.mean(raw) for each in raw], rel=1e-5)
    squares = float((kept["weight"].cast(pl.Float64) ** 2).sum())
    assert manifest.info["counts"]["effective"] == pytest.approx(len(kept) ** 2 / squares, abs=0.06)
    assert manifest.info["weights"][0]["threshold"] == half


def test_copies_keep_the_largest(folder: Path) -> None:
    bare = filtered(folder, cuts=("duplicate_of==",))
    copies = bare.verdict.copies
    assert copies is not None
    expected = {20 * shard + place: 20 * shard + place - 1 for shard in range(3) for place in (COPY, 10 + COPY)}
    assert {int(each): int(copies[each]) for each in np.flatnonzero(copies >= 0)} == expected


def test_of_copies_one_is_kept_that_passes_the_other_cuts(folder: Path) -> None:
    """The larger of two copies, 150 x 120, falls to another cut; so the smaller, 100 x 80, stays."""
    both = filtered(folder, cuts=("duplicate_of==", "pixels<15000"))
    copies = both.verdict.copies
    assert copies is not None
    for first in (COPY - 1, 10 + COPY - 1):
        assert copies[first] == first + 1 and copies[first + 1] == -1
        assert not both.verdict.keep[first] and both.verdict.keep[first + 1]


def test_without_looking_for_copies_there_are_none(folder: Path) -> None:
    bare = filtered(folder, cuts=(), distance=None)
    assert bare.verdict.copies is None and bare.verdict.keep.sum() == 60 - SKIPPED


def test_a_manifest_says_of_every_place_what_the_table_does(written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, table = written
    assert manifest.shards == ("000.tar", "001.tar", "002.tar") and manifest.samples == 60
    for shard, name in enumerate(manifest.shards):
        rows = table.filter(shard=name)
        keep, weight = manifest.of(shard)
        assert keep.tolist() == rows["keep"].to_list() and weight.tolist() == rows["weight"].to_list()
        assert [manifest.keeps(shard, place) for place in range(20)] == rows["keep"].to_list()
    assert not manifest.keep.flags.writeable


def test_the_identity_is_that_of_what_is_kept(folder: Path, written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, _ = written
    same = write_result(filtered(folder, CUTS[::-1], ("caption_words>=q0.5:3", "inverse:cluster")), folder / "out")
    assert same["identity"] == manifest.identity
    others = {write_result(filtered(folder, cuts), folder / "out")["identity"] for cuts in (CUTS, CUTS[1:], ())}
    assert len(others | {manifest.identity}) == 4
    write_result(filtered(folder, weights=("caption_words>=q0.5:3", "inverse:cluster")), folder / "out")


def test_times_are_weights_on_average_and_named_by_epoch(written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, _ = written
    times = np.array([manifest.times(epoch, seed=3) for epoch in range(400)])
    assert np.array_equal(times[7], manifest.times(7, seed=3)) and not np.array_equal(times[7], times[8])
    assert not np.array_equal(times[7], manifest.times(7, seed=4))
    assert times[:, ~manifest.keep].sum() == 0
    assert np.abs(times.mean(axis=0) - manifest.weight).max() < 4 * 0.5 / np.sqrt(400)
    assert np.abs(times - manifest.weight).max() < 1


def test_a_source_without_what_was_removed(result: Result, written: tuple[Manifest, pl.DataFrame]) -> None:
    manifest, table = written
    once = manifest.select(result.source, weighted=False)
    keys = [item.key for shard in range(3) for item in once.samples(shard)]
    assert keys == table.filter("keep")["key"].to_list()
    often = manifest.select(result.source, epoch=2, seed=1)
    assert int(often.counts().sum()) == int(manifest.times(2, 1).sum())
    assert all(isinstance(item, RawSample) for shard in range(3) for item in often.samples(shard))


def test_other_data_are_refused(written: tuple[Manifest, pl.DataFrame], tmp_path: Path) -> None:
    manifest, _ = written
    other = open_source(str(write_shards(tmp_path, shards=3, each=19)))
    with pytest.raises(InputError, match=r"was made of other data than .*: it has 000.tar \(19\) for 000.tar \(20\)"):
        manifest.check(other)
    fewer = open_source(str(write_shards(tmp_path / "two", shards=2)))
    with pytest.raises(InputError, match="it has 2 shards for 3"):
        manifest.select(fewer)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no folder", "no such folder"),
        ("unfinished", "has no manifest.json; the filter was cut short"),
        ("not JSON", "not JSON"),
        ("schema", "not of schema 1"),
        ("keys", "damaged .*'shards'"),
        ("keep", r"keep.npy has \(59,\) of bool, 60"),
        ("weight", "weight.npy cannot be read"),
        ("cut", "keep.npy cannot be read"),
    ],
)
def test_what_is_no_manifest_is_refused(
    written: tuple[Manifest, pl.DataFrame], tmp_path: Path, damage: str, words: str
) -> None:
    import shutil

    manifest, _ = written
    copy = shutil.copytree(manifest.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("scores", "samples"))
    info = json.loads((copy / "manifest.json").read_text())
    if damage == "no folder":
        copy = tmp_path / "nowhere"
    elif damage == "unfinished":
        (copy / "manifest.json").unlink()
    elif damage == "not JSON":
        (copy / "manifest.json").write_text("{")
    elif damage == "schema":
        (copy / "manifest.json").write_text(json.dumps({**info, "schema": 2}))
    elif damage == "keys":
        del info["shards"]
        (copy / "manifest.json").write_text(json.dumps(info))
    elif damage == "keep":
        np.save(copy / "keep.npy", np.zeros(59, dtype=np.bool_))
    elif damage == "cut":
        (copy / "keep.npy").write_bytes((copy / "keep.npy").read_bytes()[:90])
    else:
        (copy / "weight.npy").unlink()
    with pytest.raises(InputError, match=words):
        Manifest.open(copy)


def test_the_nearest_are_spread_among_equals() -> None:
    numbers = np.arange(1000)
    gaps = np.where(numbers % 2 == 0, 1.0, 2.0)
    gaps[[500, 7]] = 0.5, np.nan
    chosen = nearest(numbers, gaps, 5)
    assert chosen[0] == 500 and all(each % 2 == 0 for each in chosen[1:]) and chosen[1:].max() > 100
    assert nearest(numbers, gaps, 5).tolist() == chosen.tolist()
    assert len(nearest(numbers, np.full(1000, np.nan), 5)) == 0


def test_examples_are_the_nearest_on_both_sides(result: Result, written: tuple[Manifest, pl.DataFrame]) -> None:
    _, table = written
    found = examples(result, Caption())
    assert [each.pairs for each in found] == [False, False, True, False]
    words, pairs = found[0], found[2]
    removed = table.filter(pl.col("skipped").is_null() & (pl.col("caption_words") < 4))
    assert len(words.removed) == EACH and {each.key for each in words.removed} <= set(removed["key"])
    assert words.removed[0].note == "caption_words 3" and words.kept[0].note == "caption_words 6"
    assert len(words.kept[0].caption.split()) == 6
    copies = dict(table.filter(pl.col("duplicate_of").is_not_null()).select("key", "duplicate_of").iter_rows())
    assert {a.key: b.key for a, b in zip(pairs.removed, pairs.kept, strict=True)}.items() <= copies.items()
    for each in (*words.removed, *words.kept):
        assert each.jpeg[:3] == b"\xff\xd8\xff" and max(each.width, each.height) <= 192


def test_examples_of_many_cuts_stay_few(folder: Path) -> None:
    many = filtered(folder, cuts=tuple(f"caption_words>={each}" for each in range(2, 14)))
    assert sum(len(each.removed) + len(each.kept) for each in examples(many, Caption())) <= MOST


def test_histograms_count_every_sample_once(result: Result) -> None:
    found = {each.name: each for each in summarise(result, Caption()).spreads}
    assert set(found) == {"min_side", "pixels", "aspect", "caption_words", "watermark", "cluster"}
    for each in found.values():
        assert sum(each.kept) + sum(each.here) + sum(each.others) + each.missing == 60 - SKIPPED
        assert each.missing or sum(each.kept) == result.verdict.keep.sum()
    words = found["caption_words"]
    assert sum(words.here) == result.verdict.counts[0].alone and words.lines[0].number == 4
    assert sum(found["pixels"].here) == 0
    assert words.quantiles[0.0] == 1 and words.quantiles[1.0] == 20


def test_bins_part_at_the_threshold_and_are_equally_wide() -> None:
    values = np.random.default_rng(0).normal(5, 1, 10_000)
    edges = bin_edges(values, [5.123], whole=False)
    assert len(edges) == BINS + 1 and np.ptp(np.diff(edges)) < 1e-9 and np.abs(edges - 5.123).min() < 1e-9
    sides = np.random.default_rng(0).integers(64, 4096, 10_000).astype(np.float64)
    assert is_logarithmic(sides, whole=True) and not is_logarithmic(values, whole=False)
    edges = bin_edges(sides, [512], whole=True)
    assert np.ptp(np.diff(np.log(edges))) < 1e-9 and np.abs(edges - 512).min() < 1e-9
    words = np.random.default_rng(0).integers(1, 30, 1000).astype(np.float64)
    edges = bin_edges(words, [12], whole=True)
    assert 11.5 in edges and set(np.diff(edges)) == {1.0}
    assert bin_edges(np.full(9, 4.0), [], whole=True).tolist() == [3.5, 4.5]
