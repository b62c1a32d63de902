"""WebDataset tars: files of a sample lie next to each other and share their name up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prx_scale.data.samples import Skip
from prx_scale.data.sources.base import Counts, Item, Locality, Source
from prx_scale.data.sources.fields import Fields, Record, names_in
from prx_scale.data.sources.files import FileReader
from prx_scale.data.sources.kept import Kept
from prx_scale.data.sources.records import Where, as_sample
from prx_scale.data.sources.tarfiles import DamagedHeader, members, split_name
from prx_scale.data.sources.tarindex import TarIndex, counts_of, index_of

_INDEXES = 512
_LARGEST = 1 << 30


class _Damaged(Exception):
    """What lies at a place is no whole sample: the place's name, as far as it is known, why, and in words."""

    def __init__(self, name: str, reason: Skip, detail: str) -> None:
        self.name, self.reason, self.detail = name, reason, detail


class TarSource(Source):
    """Samples out of tars, one read for each.

    Args:
        spec: what the tars were named by.
        paths: local paths or URLs.
        names: the shards' names.
        fields: which field is what. Fields are the suffixes of files, and `json.KEY` what lies in a JSON file.
    """

    def __init__(self, *, spec: str, paths: Sequence[str], names: Sequence[str], fields: Fields) -> None:
        self.spec, self.paths, self.shards, self.fields = spec, tuple(paths), tuple(names), fields
        self.locality = Locality(lanes=64, window=1024)
        self._files = FileReader()
        self._indexes: Kept[int, TarIndex | OSError] = Kept(_INDEXES)
        self._counts: Counts | None = None

    def counts(self) -> Counts:
        """Places of each shard (S,); a tar that cannot be opened has one, which is damaged."""
        if self._counts is None:
            self._counts = counts_of(self.paths)
        return self._counts

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples; see :meth:`Source.fetch`."""
        ranges = [(self.paths[shard], *self._extent(shard, place)) for shard, place in wanted]
        answers = self._files.read(ranges)
        return [self._item(*at, answer) for at, answer in zip(wanted, answers, strict=True)]

    def names(self) -> tuple[str, ...]:
        """Suffixes of the first sample's files, and the keys of its JSON."""
        shard = next((shard for shard, count in enumerate(self.counts()) if count), None)
        if shard is None:
            return ()
        data = self._files.read([(self.paths[shard], *self._extent(shard, 0))])[0]
        try:
            return () if isinstance(data, OSError) else tuple(names_in(read_record(data)[1]))
        except _Damaged:
            return ()

    def _index(self, shard: int) -> TarIndex | OSError:
        def read() -> TarIndex | OSError:
            try:
                return index_of(self.paths[shard])
            except OSError as error:
                return error

        return self._indexes.get(shard, read)

    def _extent(self, shard: int, place: int) -> tuple[int, int]:
        index = self._index(shard)
        if isinstance(index, OSError) or place >= index.count:
            return 0, 0
        start, stop = int(index.edges[place]), int(index.edges[place + 1])
        return (start, stop) if stop - start <= _LARGEST else (0, 0)

    def _item(self, shard: int, place: int, data: bytes | OSError) -> Item:
        index, name = self._index(shard), self.shards[shard]
        unnamed = Where(key=f"{name}/{place}", shard=name, place=place)
        if isinstance(index, OSError) or isinstance(data, OSError):
            error = index if isinstance(index, OSError) else data
            return unnamed.skipped(Skip.CORRUPT_SHARD, f"cannot be read: {error}")
        if place >= index.count:
            return unnamed.skipped(Skip.CORRUPT_SHARD, "has become shorter while it was read")
        start, stop = int(index.edges[place]), int(index.edges[place + 1])
        if stop - start > _LARGEST:
            return unnamed.skipped(Skip.CORRUPT_RECORD, f"{stop - start:,} bytes, more than any image")
        if len(data) != stop - start or not data:
            wrong = f"has no bytes {start} to {stop}" if stop > start else "is empty"
            return unnamed.skipped(Skip.CORRUPT_SHARD, wrong)
        try:
            base, record = read_record(data)
        except _Damaged as found:
            where = Where(key=f"{name}/{found.name or place}", shard=name, place=place)
            return where.skipped(found.reason, f"bytes {start} to {stop}: {found.detail}")
        where = Where(key=f"{name}/{base}", shard=name, place=place)
        if place in index.again:
            return where.skipped(Skip.CORRUPT_RECORD, "the shard has its name before, so its files are apart")
        if place == index.count - 1 and not index.ended:
            return where.skipped(Skip.CORRUPT_SHARD, "the file has no end mark: its last sample may lack files")
        return as_sample(record, where, self.fields)


def read_record(data: bytes) -> tuple[str, Record]:
    """Name and files by suffix of the sample that some bytes of a tar hold; JSON is read.

    Raises:
        _Damaged: the bytes are cut off, or hold no whole headers, or a JSON file is none.
    """
    base, record = "", dict[str, object]()
    try:
        for member in members(lambda start, stop: data[start:stop], 0, len(data)):
            if not member.used:
                continue
            base, suffix = split_name(member.name)
            if member.data + member.size > len(data):
                raise _Damaged(base, Skip.CORRUPT_SHARD, f"the file ends inside {member.name}")
            record[suffix.lower()] = data[member.data : member.data + member.size]
    except DamagedHeader as error:
        raise _Damaged(base, Skip.CORRUPT_SHARD, str(error)) from error
    if "json" in record:
        try:
            record["json"] = json.loads(record["json"])  # type: ignore[arg-type]
        except (ValueError, RecursionError) as error:
            raise _Damaged(base, Skip.CORRUPT_RECORD, f"its JSON cannot be read: {error}") from error
    return base, record
