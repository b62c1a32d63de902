"""Folders of images: captions beside them and in tables."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources import Fields, Item, open_source
from prx_scale.errors import InputError
from tests.prx_scale.data.made import encoded, jpeg, pixels


def all_of(folder: Path, fields: Fields | None = None) -> list[Item]:
    source = open_source(str(folder), fields)
    return [item for shard in range(len(source.shards)) for item in source.samples(shard)]


def test_captions_beside_images(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.jpg").write_bytes(jpeg(seed=1))
    (tmp_path / "a.txt").write_text("words\n")
    (tmp_path / "a.long.txt").write_text("many words")
    (tmp_path / "b" / "x.v2.PNG").write_bytes(encoded(pixels(9, 9), "PNG"))
    (tmp_path / "b" / "x.v2.json").write_text(json.dumps({"caption": "a png", "width": 9, "height": 9}))
    (tmp_path / "b" / "alone.webp").write_bytes(encoded(pixels(9, 9), "WEBP"))
    (tmp_path / "b" / ".hidden.jpg").write_bytes(jpeg())
    found = {item.key: item for item in all_of(tmp_path)}
    root = tmp_path.name
    assert set(found) == {f"{root}/a.jpg", "b/x.v2.PNG", "b/alone.webp"}
    first, second, alone = found[f"{root}/a.jpg"], found["b/x.v2.PNG"], found["b/alone.webp"]
    assert isinstance(first, RawSample) and (first.captions, first.image) == ({"original": "words"}, jpeg(seed=1))
    assert isinstance(second, RawSample) and (second.captions, second.size) == ({"original": "a png"}, (9, 9))
    assert isinstance(alone, Skipped) and alone.reason == Skip.NO_CAPTION
    both = all_of(tmp_path, Fields(captions={"short": "txt", "long": "long.txt"}))
    assert [item.captions for item in both if isinstance(item, RawSample)] == [{"short": "words", "long": "many words"}]


def test_captions_in_tables(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.jpg", "b/c.jpg", "b/d.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    rows = [{"file_name": "a.jpg", "text": "one", "score": 3}, {"file_name": "b/c.jpg", "text": "two", "score": None}]
    (tmp_path / "metadata.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    with (tmp_path / "b" / "captions.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerows([["file", "text"], ["d.jpg", "three,\nstill three"], ["gone.jpg", "nobody"]])
    items = all_of(tmp_path, Fields(scores={"aesthetic": "score"}))
    assert [(item.captions, item.scores) for item in items if isinstance(item, RawSample)] == [
        ({"original": "one"}, {"aesthetic": 3.0}),
        ({"original": "two"}, {}),
        ({"original": "three,\nstill three"}, {}),
    ]
    (gone,) = [item for item in items if isinstance(item, Skipped)]
    assert (gone.key, gone.reason) == ("b/gone.jpg", Skip.NO_IMAGE)


def test_classes_are_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg").write_bytes(jpeg())
    items = all_of(tmp_path, Fields(label="folder"))
    assert [item.label for item in items if isinstance(item, RawSample)] == ["cat", "dog"]


@pytest.mark.parametrize(
    "name, text, said",
    [
        (
            "metadata.jsonl",
            '{"file_name": "a.jpg"}\n{"file_name": "a.jpg"}',
            "metadata.jsonl:2: names a.jpg a second time",
        ),
        (
            "metadata.jsonl",
            '{"caption": "x"}',
            "metadata.jsonl:1: names no file; it needs a column file_name, here: caption",
        ),
        ("metadata.jsonl", "{", "metadata.jsonl:1: not JSON"),
        ("metadata.jsonl", "[]", "metadata.jsonl:1: not a JSON object"),
        ("captions.csv", "name,text\na.jpg,x\n", "captions.csv:2: names no file"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        open_source(str(tmp_path))


def test_bad_files_beside_an_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg())
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.json").write_text("{")
    items = all_of(tmp_path)
    assert [item.reason for item in items if isinstance(item, Skipped)] == [Skip.CORRUPT_RECORD]


def test_folders_that_hold_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "a.txt").write_text("words")
    os.symlink(tmp_path, tmp_path / "again")
    assert len(all_of(tmp_path)) == 1


def test_large_folders_are_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prx_scale.data.sources.folders._SHARD", 2)
    for n in range(5):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(seed=n))
    source = open_source(str(tmp_path), Fields(need_caption=False))
    assert source.counts().tolist() == [2, 2, 1] and source.shards[2] == f"{tmp_path.name}#2"
    assert [item.image for item in source.fetch([(2, 0), (1, 1)]) if isinstance(item, RawSample)] == [
        jpeg(seed=4),
        jpeg(seed=3),
    ]


def test_a_wrong_field_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images \(.jpg, .*below it"):
        open_source(str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(InputError, match=r"'folde' \(for 'class'\); did you mean 'folder'"):
        open_source(str(tmp_path), Fields(captions={"original": "txt", "class": "folde"}))
