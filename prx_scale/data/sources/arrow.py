"""Datasets that Hugging Face saved to disk: Arrow files, memory-mapped, a row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prx_scale.data.samples import Skip
from prx_scale.data.sources.base import Counts, Item, Locality, Source
from prx_scale.data.sources.fields import Fields, as_text, lookup
from prx_scale.data.sources.files import local_path
from prx_scale.data.sources.kept import Kept
from prx_scale.data.sources.records import Where, as_sample
from prx_scale.data.sources.tables import arrow_library, beside, columns_of, row_of
from prx_scale.errors import InputError

_OPEN_FILES = 256


class ArrowSource(Source):
    """Rows out of Arrow files, of the format for streams, as Hugging Face datasets writes it, or the one for files.

    Args:
        spec: what the files were named by.
        paths: local paths.
        names: the files' names.
        fields: which column is what.

    Raises:
        InputError: pyarrow is missing, or a column that was named.
    """

    def __init__(self, *, spec: str, paths: Sequence[str], names: Sequence[str], fields: Fields) -> None:
        self.spec, self.fields = spec, fields
        self.shards = tuple(names)
        self.locality = Locality(lanes=64, window=1024)
        arrow_library(spec)
        self._paths = tuple(local_path(path) for path in paths)
        self._names: tuple[str, ...] = ()
        self._tables: Kept[str, Any] = Kept(_OPEN_FILES)
        self._counts = np.array([self._count(path) for path in self._paths], dtype=np.int64)

    def counts(self) -> Counts:
        """Rows of each file (S,); a damaged one has one."""
        return self._counts

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples; see :meth:`Source.fetch`."""
        return [self._item(shard, place) for shard, place in wanted]

    def names(self) -> tuple[str, ...]:
        """Columns of the first file that can be read."""
        return self._names

    def _count(self, path: str) -> int:
        table = self._table(path)
        return 1 if isinstance(table, str) else int(table.num_rows)

    def _item(self, shard: int, place: int) -> Item:
        path, name = self._paths[shard], self.shards[shard]
        where = Where(key=f"{name}/{place}", shard=name, place=place)
        table = self._table(path)
        if isinstance(table, str):
            return where.skipped(Skip.CORRUPT_SHARD, table)
        try:
            record = row_of(table, place)
        except (InputError, MemoryError):
            raise
        except Exception as error:
            # What is damaged shows where it is looked at; pyarrow raises many kinds.
            return where.skipped(Skip.CORRUPT_RECORD, f"{type(error).__name__}: {error}"[:200])
        if self.fields.key and (key := as_text(lookup(record, self.fields.key))):
            where = Where(key=f"{name}/{key}", shard=name, place=place)
        return as_sample(record, where, self.fields, beside(path))

    def _table(self, path: str) -> Any:
        """The columns of a file that hold fields, or what is wrong with it."""

        def read() -> Any:
            try:
                table = _mapped(path)
            except (InputError, MemoryError):
                raise
            except Exception as error:
                # pyarrow's errors are of several kinds.
                return f"{type(error).__name__}: {error}"[:200]
            self._names = self._names or tuple(table.column_names)
            return table.select(columns_of(path, table.column_names, self.fields))

        return self._tables.get(path, read)


def _mapped(path: str) -> Any:
    pa = arrow_library(path)
    mapped = pa.memory_map(path, "r")
    if mapped.read(6) == b"ARROW1":
        return pa.ipc.open_file(mapped).read_all()
    mapped.seek(0)
    return pa.ipc.open_stream(mapped).read_all()
