"""The scores that were found, as files and as columns over all samples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prx_scale.data.filters.base import Type
from prx_scale.errors import InputError

FIXED: Mapping[str, Any] = {"key": pl.String, "place": pl.UInt32, "skipped": pl.String, "detail": pl.String}
"""The columns that every file of scores has."""
SCORERS = "prx_scale_scorers"
"""Metadata of a file: hash and columns of each scorer that it has scores of."""
_TYPES: Mapping[Type, Any] = {"float": pl.Float64, "int": pl.Int64, "hash": pl.UInt64, "text": pl.String}
_ROWS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A scorer whose scores a file has."""

    hash: str
    columns: tuple[str, ...]


def typed(kind: Type) -> Any:
    """The polars type of a score."""
    return _TYPES[kind]


def part_path(folder: Path, shard: int) -> Path:
    """The file of a shard's scores."""
    return folder / f"{shard:06d}.parquet"


def scored_by(path: Path, count: int) -> dict[str, Scored]:
    """What a file has, by scorer; empty if there is no such file, or it is damaged.

    Args:
        path: of a shard's scores.
        count: samples of the shard.
    """
    if not path.exists():
        return {}
    try:
        known = json.loads(pl.read_parquet_metadata(path)[SCORERS])
        if pl.scan_parquet(path).select(pl.len()).collect().item() != count:
            return {}
        return {name: Scored(hash=digest, columns=tuple(columns)) for name, (digest, columns) in known.items()}
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError):
        return {}


def lacking(path: Path, count: int, wanted: Mapping[str, str]) -> list[str]:
    """The scorers whose scores a file has not, or has as they were before their scorer changed.

    Args:
        path: of a shard's scores.
        count: samples of the shard.
        wanted: hash by scorer.
    """
    known = scored_by(path, count)
    return [name for name, digest in wanted.items() if name not in known or known[name].hash != digest]


def read_part(path: Path) -> pl.DataFrame:
    """The scores of a shard."""
    return pl.read_parquet(path)


def write_part(path: Path, frame: pl.DataFrame, scorers: Mapping[str, Scored]) -> None:
    """Write the scores of a shard as a whole or not at all.

    Args:
        path: the file.
        frame: a row a sample.
        scorers: whose they are.
    """
    write_frame(path, frame, {SCORERS: json.dumps({name: (each.hash, each.columns) for name, each in scorers.items()})})


def write_frame(path: Path, frame: pl.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a table as a Parquet file, as a whole or not at all.

    Args:
        path: the file; its folder is there.
        frame: the table.
        metadata: to be stored with it.

    Raises:
        InputError: it cannot be written, as the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.write_parquet(partial, metadata=metadata)
        os.replace(partial, path)
    except (OSError, pl.exceptions.ComputeError) as error:
        # polars has an error of its own for what the system refuses.
        raise InputError(f"{path}: cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of all samples, numbered through the shards."""

    folder: Path
    shards: tuple[str, ...]
    counts: tuple[int, ...]
    types: Mapping[str, Type]
    """The scores that there are."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """(S + 1,) number of the first sample of each shard, and of all samples."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @property
    def samples(self) -> int:
        """All of them."""
        return sum(self.counts)

    def check(self, scorers: Mapping[str, str]) -> None:
        """Refuse a folder in which a shard lacks scores.

        Args:
            scorers: hash by name of those that are needed.

        Raises:
            InputError: names the first such shard.
        """
        for shard, (name, count) in enumerate(zip(self.shards, self.counts, strict=True)):
            missing = lacking(part_path(self.folder, shard), count, scorers) if count else []
            if missing:
                raise InputError(f"{part_path(self.folder, shard)}: shard {name} has no scores of {', '.join(missing)}")

    def column(self, name: str) -> pl.Series:
        """One column over all samples (N,)."""
        return self.columns([name])[name]

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns over all samples (N,)."""
        return self._scan(range(len(self.shards))).select(names).collect()

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A score of all samples (N,), nan for those without."""
        return self.column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def frames(self, names: Sequence[str] | None = None) -> Iterator[tuple[range, int, pl.DataFrame]]:
        """About a million rows at a time: their shards, number of the first sample, and rows.

        Args:
            names: columns; None for all, with the name of the shard.
        """
        first, shard = 0, 0
        while shard < len(self.shards):
            end, rows = shard, 0
            while end < len(self.shards) and (end == shard or rows + self.counts[end] <= _ROWS):
                rows += self.counts[end]
                end += 1
            scan = self._scan(range(shard, end))
            yield range(shard, end), first, (scan if names is None else scan.select(names)).collect()
            first, shard = first + rows, end

    def _scan(self, shards: range) -> pl.LazyFrame:
        names = ["key", "shard", *(name for name in FIXED if name != "key"), *self.types]
        parts = [
            pl.scan_parquet(part_path(self.folder, shard)).with_columns(shard=pl.lit(self.shards[shard]))
            for shard in shards
            if self.counts[shard]
        ]
        empty = pl.LazyFrame(schema={**FIXED, "shard": pl.String, **{k: typed(v) for k, v in self.types.items()}})
        return pl.concat([part.select(names) for part in parts] or [empty.select(names)])
