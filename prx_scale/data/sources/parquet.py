"""Parquet files: a row group is a shard, as it is what can be read by itself."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prx_scale.data.samples import Skip
from prx_scale.data.sources.base import Counts, Item, Locality, Source
from prx_scale.data.sources.fields import Fields, as_text, lookup
from prx_scale.data.sources.files import filesystem, is_url, local_path
from prx_scale.data.sources.kept import Kept
from prx_scale.data.sources.records import Where, as_sample
from prx_scale.data.sources.tables import arrow_library, beside, columns_of, row_of
from prx_scale.errors import InputError

_BUDGET = 1 << 30
_OPEN_FILES = 64
_MOST_LANES = 16


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A row group; or a file that cannot be read, as one damaged row."""

    path: str
    number: int
    rows: int
    bytes: int
    wrong: str = ""


class ParquetSource(Source):
    """Rows out of Parquet files. Row groups stay in memory until others push them out, up to 1 GiB.

    Args:
        spec: what the files were named by.
        paths: local paths or URLs.
        names: the files' names.
        fields: which column is what.

    Raises:
        InputError: pyarrow is missing, or a column that was named.
    """

    def __init__(self, *, spec: str, paths: Sequence[str], names: Sequence[str], fields: Fields) -> None:
        self.spec, self.fields = spec, fields
        arrow_library(spec)
        self._names: tuple[str, ...] = ()
        self._columns: dict[str, list[str]] = {}
        self._groups: list[_Group] = []
        shards: list[str] = []
        for path, name in zip(paths, names, strict=True):
            groups = self._groups_of(path)
            shards.extend(name if len(groups) == 1 else f"{name}#{group.number}" for group in groups)
            self._groups.extend(groups)
        self.shards = tuple(shards)
        self.locality = _locality(self._groups)
        self._tables: Kept[int, Any] = Kept(_BUDGET, weigh=_bytes)
        self._files: Kept[str, Any] = Kept(_OPEN_FILES, drop=_close)

    def counts(self) -> Counts:
        """Rows of each row group (S,)."""
        return np.array([group.rows for group in self._groups], dtype=np.int64)

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples; see :meth:`Source.fetch`."""
        found: dict[tuple[int, int], Item] = {}
        for shard, place in sorted(set(wanted)):
            found[shard, place] = self._item(shard, place)
        return [found[at] for at in wanted]

    def names(self) -> tuple[str, ...]:
        """Columns of the first file that can be read."""
        return self._names

    def _groups_of(self, path: str) -> list[_Group]:
        try:
            file = _opened(path)
        except (InputError, MemoryError):
            raise
        except Exception as error:
            # pyarrow's errors and those of a protocol's client.
            return [_Group(path=path, number=0, rows=1, bytes=0, wrong=f"{type(error).__name__}: {error}")]
        self._names = self._names or tuple(file.schema_arrow.names)
        self._columns[path] = columns_of(path, file.schema_arrow.names, self.fields)
        sizes = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return [
            _Group(path=path, number=number, rows=size.num_rows, bytes=size.total_byte_size)
            for number, size in enumerate(sizes)
        ]

    def _item(self, shard: int, place: int) -> Item:
        group, name = self._groups[shard], self.shards[shard]
        where = Where(key=f"{name}/{place}", shard=name, place=place)
        if group.wrong:
            return where.skipped(Skip.CORRUPT_SHARD, group.wrong)
        try:
            record = row_of(self._table(shard), place)
        except (InputError, MemoryError):
            raise
        except Exception as error:
            # A damaged page: pyarrow raises OSError, ArrowInvalid and others.
            return where.skipped(Skip.CORRUPT_SHARD, f"row {place}: {type(error).__name__}: {error}"[:200])
        if self.fields.key and (key := as_text(lookup(record, self.fields.key))):
            where = Where(key=f"{name}/{key}", shard=name, place=place)
        return as_sample(record, where, self.fields, beside(group.path))

    def _table(self, shard: int) -> Any:
        group = self._groups[shard]

        def read() -> Any:
            file = self._files.get(group.path, lambda: _opened(group.path))
            return file.read_row_group(group.number, self._columns[group.path], use_threads=False)

        return self._tables.get(shard, read)


def _bytes(table: Any) -> int:
    return table.nbytes


def _close(file: Any) -> None:
    file.close(force=True)


def _opened(path: str) -> Any:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    if is_url(path) and not path.startswith("file://"):
        system, name = filesystem(path)
        return parquet.ParquetFile(system.open(name, "rb"), pre_buffer=False)
    return parquet.ParquetFile(local_path(path), pre_buffer=False, memory_map=True)


def _locality(groups: Sequence[_Group]) -> Locality:
    """As many lanes as have room in memory with the two row groups that each reads at."""
    sound = [group for group in groups if group.rows and not group.wrong]
    if not sound:
        return Locality(lanes=1, window=1)
    size = sum(group.bytes for group in sound) // len(sound)
    rows = sum(group.rows for group in sound) // len(sound)
    return Locality(lanes=min(max(_BUDGET // (2 * max(size, 1)), 1), _MOST_LANES), window=min(max(rows, 1), 1024))
