"""Folders of image files, with captions beside them or in a table."""

from __future__ import annotations

import csv
import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from prx_scale.data.samples import Skip
from prx_scale.data.sources.base import Counts, Item, Locality, Source
from prx_scale.data.sources.fields import CAPTIONS, LABELS, Fields, Record, names_in
from prx_scale.data.sources.records import Where, as_sample
from prx_scale.data.sources.specs import IMAGE_SUFFIXES
from prx_scale.data.sources.state import listed
from prx_scale.errors import InputError

TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv")
NAMES = ("file_name", "filename", "file", "image", "path")

_SHARD = 10_000
_LONGEST_TEXT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """Some images of one folder."""

    folder: str
    images: tuple[str, ...]


@dataclass(kw_only=True)
class _Listing:
    """A folder: all its files, sorted, and what tables say of its images."""

    files: list[str]
    told: dict[str, Record] = field(default_factory=dict[str, Record])


class FolderSource(Source):
    """Images below folders; a shard is a folder, or ten thousand images of it.

    What is known of an image: files of the same name with another suffix (`a.txt`, `a.json`, `a.long.txt` beside
    `a.jpg`), its row in a table of its folder or one above (metadata.jsonl, metadata.csv, captions.jsonl or
    captions.csv, with a column `file_name`), and as field `folder` its folder's name.

    Args:
        spec: what the folders were named by.
        paths: the folders.
        fields: which field is what.

    Raises:
        InputError: no images, or a damaged table.
    """

    def __init__(self, *, spec: str, paths: Sequence[str], fields: Fields) -> None:
        self.spec, self.fields = spec, fields
        self.locality = Locality(lanes=64, window=1024)
        self._folders: dict[str, _Listing] = {}
        for path in paths:
            self._list(os.path.normpath(path))
        self._shards = [
            _Shard(folder=folder, images=tuple(images[start : start + _SHARD]))
            for folder in sorted(self._folders)
            for images in [self._images(folder)]
            for start in range(0, len(images), _SHARD)
        ]
        if not self._shards:
            raise InputError(f"{spec}: no images ({', '.join(IMAGE_SUFFIXES)}), tars, Parquet or Arrow files below it")
        self.shards = tuple(_names([shard.folder for shard in self._shards]))

    def counts(self) -> Counts:
        """Images of each shard (S,), with those that a table names and that are missing."""
        return np.array([len(shard.images) for shard in self._shards], dtype=np.int64)

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples; see :meth:`Source.fetch`."""
        return [self._item(shard, place) for shard, place in wanted]

    def names(self) -> tuple[str, ...]:
        """Fields of the first images; of files beside them those that may hold what was asked for."""
        found: set[str] = set()
        for file in self._shards[0].images[:8]:
            record = {**dict(self._texts(self._shards[0].folder, file)), **self._told(self._shards[0].folder, file)}
            found.update(names_in(record))
        return (*sorted(found), "folder")

    def _told(self, folder: str, image: str) -> Record:
        return self._folders[folder].told.get(image, {})

    def _list(self, root: str) -> None:
        tables: list[tuple[str, str]] = []
        for folder, files in listed(root):
            self._folders[folder] = _Listing(files=files)
            tables.extend((folder, name) for name in TABLES if name in files)
        # A table of a folder knows more of it than one above: it comes later, and wins.
        for folder, name in tables:
            for told, record in _rows(Path(folder, name)).items():
                inside, last = os.path.split(os.path.normpath(os.path.join(folder, told)))
                if inside in self._folders:
                    known = self._folders[inside].told
                    known[last] = {**known.get(last, {}), **record}

    def _images(self, folder: str) -> list[str]:
        listing = self._folders[folder]
        found = {name for name in listing.files if name.lower().endswith(IMAGE_SUFFIXES)}
        return sorted(found | set(listing.told))

    def _item(self, number: int, place: int) -> Item:
        shard, name = self._shards[number], self.shards[number]
        file = shard.images[place]
        where = Where(key=f"{name}/{file}", shard=name, place=place)
        try:
            image = Path(shard.folder, file).read_bytes()
        except FileNotFoundError:
            return where.skipped(Skip.NO_IMAGE, "a table names it, and it is not there")
        except OSError as error:
            return where.skipped(Skip.NO_IMAGE, f"cannot be read: {error}")
        record: dict[str, object] = {"folder": os.path.basename(shard.folder)}
        try:
            record.update(self._texts(shard.folder, file))
        except (OSError, ValueError, RecursionError) as error:
            return where.skipped(Skip.CORRUPT_RECORD, str(error)[:200])
        record.update(self._told(shard.folder, file))
        field_of_image = self.fields.image or "image"
        return as_sample({**record, field_of_image: image}, where, self.fields)

    def _texts(self, folder: str, image: str) -> Iterator[tuple[str, object]]:
        """Suffix and contents of the files beside an image that may hold a field."""
        files, stem = self._folders[folder].files, os.path.splitext(image)[0] + "."
        asked = (*self.fields.named(), *CAPTIONS, *LABELS)
        at = bisect_left(files, stem)
        while at < len(files) and files[at].startswith(stem):
            suffix = files[at][len(stem) :]
            if any(name == suffix or name.startswith(f"{suffix}.") for name in asked):
                with open(os.path.join(folder, files[at]), "rb") as file:
                    contents = file.read(_LONGEST_TEXT)
                yield suffix, json.loads(contents) if suffix == "json" else contents
            at += 1


def _rows(table: Path) -> dict[str, Record]:
    """Rows of a table by the file that they name.

    Raises:
        InputError: it cannot be read, has no column that names files, or names one twice.
    """
    rows = dict[str, Record]()
    try:
        for line, row in _read_csv(table) if table.suffix == ".csv" else _read_jsonl(table):
            named = next((row[name] for name in NAMES if isinstance(row.get(name), str) and row[name]), None)
            if not isinstance(named, str):
                raise InputError(f"{table}:{line}: names no file; it needs a column {NAMES[0]}, here: {', '.join(row)}")
            if named in rows:
                raise InputError(f"{table}:{line}: names {named} a second time; one row a file is right")
            rows[named] = {name: value for name, value in row.items() if name not in NAMES}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read: {error}") from error
    return rows


def _read_csv(table: Path) -> Iterator[tuple[int, Record]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if name and value is not None}


def _read_jsonl(table: Path) -> Iterator[tuple[int, Record]]:
    with table.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as error:
                raise InputError(f"{table}:{line}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{table}:{line}: not a JSON object")
            yield line, cast("Record", row)


def _names(folders: Sequence[str]) -> Iterator[str]:
    """A short name for each shard: its folder without what all share, and a number where a folder is several."""
    shared = os.path.dirname(os.path.commonpath(folders)) if len(set(folders)) == 1 else os.path.commonpath(folders)
    seen, times = dict[str, int](), Counter(folders)
    for folder in folders:
        name = os.path.relpath(folder, shared) if shared else folder
        name = os.path.basename(os.path.abspath(folder)) if name == "." else name
        seen[folder] = seen.get(folder, -1) + 1
        yield f"{name}#{seen[folder]}" if times[folder] > 1 else name
