"""Parquet files and datasets that Hugging Face saved."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources import Fields, open_source
from prx_scale.errors import InputError
from tests.prx_scale.data.made import jpeg


def table(rows: int, start: int = 0, **more: Any) -> pa.Table:
    names = range(start, start + rows)
    return pa.table(
        {
            "image": [{"bytes": jpeg(seed=n), "path": None} for n in names],
            "caption": [f"words {n}" for n in names],
            "aesthetic": [n / 2 for n in names],
            "width": [32] * rows,
            "height": [24] * rows,
            **more,
        }
    )


def test_rows_of_every_row_group(tmp_path: Path) -> None:
    pq.write_table(table(7), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(table(2, start=7), tmp_path / "b.parquet")
    source = open_source(str(tmp_path), Fields(scores={"beauty": "aesthetic"}))
    assert source.shards == ("a.parquet#0", "a.parquet#1", "a.parquet#2", "b.parquet")
    assert source.counts().tolist() == [3, 3, 1, 2]
    (last,) = source.fetch([(3, 1)])
    assert last == RawSample(
        key="b.parquet/1",
        image=jpeg(seed=8),
        captions={"original": "words 8"},
        scores={"beauty": 4.0},
        size=(24, 32),
        shard="b.parquet",
        place=1,
    )
    mixed = source.fetch([(2, 0), (0, 2), (3, 0), (0, 0)])
    assert [item.key for item in mixed] == ["a.parquet#2/0", "a.parquet#0/2", "b.parquet/0", "a.parquet#0/0"]
    assert list(pickle.loads(pickle.dumps(source)).samples(1)) == list(source.samples(1))


def test_columns_by_name_and_images_as_plain_bytes_or_by_path(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg(seed=5))
    columns = {
        "photo": [
            {"bytes": None, "path": "images/a.jpg"},
            {"bytes": jpeg(), "path": "gone.jpg"},
            None,
            {"path": "gone.jpg"},
        ],
        "plain": [jpeg(seed=n) for n in range(4)],
        "llm": [{"long": "a"}, {"long": "b"}, {"long": "c"}, {"long": ""}],
        "id": ["w", "x", "y", "z"],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    fields = Fields(image="photo", captions={"long": "llm.long"}, key="id")
    items = list(open_source(str(tmp_path / "a.parquet"), fields).samples(0))
    assert [item.key for item in items] == [f"a.parquet/{each}" for each in "wxyz"]
    assert [item.image for item in items if isinstance(item, RawSample)] == [jpeg(seed=5), jpeg()]
    assert [item.reason for item in items if isinstance(item, Skipped)] == [Skip.NO_IMAGE, Skip.NO_IMAGE]
    plain = list(
        open_source(str(tmp_path / "a.parquet"), Fields(image="plain", captions={"long": "llm.long"})).samples(0)
    )
    assert [isinstance(item, RawSample) for item in plain] == [True, True, True, False]
    assert isinstance(plain[3], Skipped) and plain[3].reason == Skip.NO_CAPTION


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    pq.write_table(table(2), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet: no column holds 'captions'; did you mean 'caption'\?"):
        open_source(str(tmp_path), Fields(captions={"original": "captions"}))
    pq.write_table(pa.table({"picture": [b"x"], "caption": ["a"], "n": [1]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"no image \(fields: picture, caption, n\); name the image's field"):
        open_source(str(tmp_path / "b.parquet"))


def test_damaged_parquet_files(tmp_path: Path) -> None:
    pq.write_table(table(4), tmp_path / "a.parquet", compression="none")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    at = whole.index(jpeg(seed=2)[:40])
    # Over the values: the pages of the image column no longer add up, the other columns do.
    (tmp_path / "c.parquet").write_bytes(whole[: at - 700] + bytes(1400) + whole[at + 700 :])
    source = open_source(str(tmp_path))
    found = {name: list(source.samples(shard)) for shard, name in enumerate(source.shards)}
    assert all(isinstance(item, RawSample) for item in found["a.parquet"])
    (cut,) = found["b.parquet"]
    assert isinstance(cut, Skipped) and cut.reason == Skip.CORRUPT_SHARD
    assert len(found["c.parquet"]) == 4


def test_parquet_by_url(tmp_path: Path) -> None:
    import fsspec

    pq.write_table(table(5), tmp_path / "a.parquet", row_group_size=2)
    fsspec.filesystem("memory").pipe("/tables/a.parquet", (tmp_path / "a.parquet").read_bytes())
    source = open_source("memory://tables/a.parquet")
    assert [list(source.samples(shard)) for shard in range(3)] == [
        list(open_source(str(tmp_path)).samples(shard)) for shard in range(3)
    ]


def test_lanes_of_row_groups_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(40), tmp_path / "a.parquet", row_group_size=10)
    assert open_source(str(tmp_path)).locality.lanes == 16
    size = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).total_byte_size
    monkeypatch.setattr("prx_scale.data.sources.parquet._BUDGET", 5 * size)
    locality = open_source(str(tmp_path)).locality
    assert (locality.lanes, locality.window) == (2, 10)


def test_row_groups_that_push_each_other_out_are_read_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(12), tmp_path / "a.parquet", row_group_size=2)
    monkeypatch.setattr("prx_scale.data.sources.parquet._BUDGET", 1)
    source = open_source(str(tmp_path))
    wanted = [(shard, place) for place in range(2) for shard in range(6)]
    captions = [item.captions["original"] for item in source.fetch(wanted) if isinstance(item, RawSample)]
    assert captions == [f"words {2 * shard + place}" for shard, place in wanted]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A dataset of two splits that Hugging Face datasets saved, the first in two files."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {
        "image": [{"bytes": jpeg(seed=n), "path": None} for n in range(5)],
        "text": [f"words {n}" for n in range(5)],
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict({"train": data, "test": data.select([4, 1])})
    splits.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 2, "test": 1})
    return tmp_path / "saved"


def test_datasets_that_hugging_face_saved(saved: Path) -> None:
    with pytest.raises(InputError, match=r"several splits; name one: .*saved/test, .*saved/train"):
        open_source(str(saved))
    source = open_source(str(saved / "train"))
    assert source.counts().tolist() == [3, 2] and source.shards[0] == "data-00000-of-00002.arrow"
    items = source.fetch([(1, 1), (0, 0), (0, 2)])
    assert [(item.image, item.captions) for item in items if isinstance(item, RawSample)] == [
        (jpeg(seed=n), {"original": f"words {n}"}) for n in (4, 0, 2)
    ]
    assert list(pickle.loads(pickle.dumps(source)).samples(1)) == list(source.samples(1))
    chosen = list(open_source(str(saved / "test")).samples(0))
    assert [item.captions["original"] for item in chosen if isinstance(item, RawSample)] == ["words 4", "words 1"]


def test_damaged_saved_datasets(saved: Path) -> None:
    second = saved / "train" / "data-00001-of-00002.arrow"
    second.write_bytes(second.read_bytes()[:300])
    source = open_source(str(saved / "train"))
    (item,) = source.samples(1)
    assert isinstance(item, Skipped) and item.reason == Skip.CORRUPT_SHARD
    os.remove(second)
    with pytest.raises(InputError, match=r"data-00001-of-00002.arrow: no such file \(1 of 2 are missing\)"):
        open_source(str(saved / "train"))
    (saved / "train" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state.json: does not list the dataset's files"):
        open_source(str(saved / "train"))
