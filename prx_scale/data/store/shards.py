"""A shard of a store while it is made: samples, latents and text states come in, then all is written at once."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.samples import Skipped
from prx_scale.data.store import layout
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.records import ShardRecord, write_record
from prx_scale.data.store.storage import CODES, Packed
from prx_scale.data.store.writing import Tensor, Written, write_bytes, write_tensors
from prx_scale.models.encoders.image.normalisation import LatentStatistics
from prx_scale.models.sizes import SIZES

FILTERED = "filtered"
"""Why a sample is not in the store, in the table, where a filter says so."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """What the table of a shard says of one sample."""

    key: str
    shard: str = ""
    """Of the data."""
    place: int = 0
    size: tuple[int, int] | None = None
    """Height and width of the image, upright."""
    captions: Mapping[str, str] = field(default_factory=dict[str, str])
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    label: str | None = None
    left_out: str | None = None
    """Why there are no latents."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRows:
    """States of some captions of one encoder, as they are stored."""

    tokens: Packed | None
    """(R, L, D); (T, D), one after another, with lengths."""
    pooled: Packed | None
    """(R, P)."""
    lengths: NDArray[np.int64] | None
    """(R,) tokens of each, where padding is not kept."""


class ShardBuilder:
    """Collects the content of one shard.

    Rows of latents and texts are numbered in the order in which they come.
    """

    def __init__(self, recipe: Recipe, shard: int) -> None:
        """An empty shard.

        Args:
            recipe: of the store.
            shard: its number.
        """
        self.recipe, self.shard = recipe, shard
        self.first, stop = recipe.range(shard)
        self.count = stop - self.first
        self.rows: dict[int, TableRow] = {}
        self.skipped: list[Skipped] = []
        self.small: dict[int, int] = {each.image_size: 0 for each in recipe.resolutions}
        self._bucket = {size: np.full(self.count, -1, dtype=np.int16) for size in self.small}
        self._row = {size: np.full(self.count, -1, dtype=np.int32) for size in self.small}
        self._conditioning = {size: np.zeros((self.count, SIZES), dtype=np.int32) for size in self.small}
        self._caption = np.full((self.count, len(recipe.captions.kinds)), -1, dtype=np.int32)
        self._latents: dict[tuple[int, int], list[Packed]] = defaultdict(list)
        self._counts = {each.image_size: [0] * len(each.buckets) for each in recipe.resolutions}
        self._texts: dict[str, list[TextRows]] = {each.name: [] for each in recipe.text}
        self._text_rows = 0
        self._statistics = {size: LatentStatistics() for size in self.small}

    def add_latents(
        self,
        image_size: int,
        bucket: int,
        numbers: Sequence[int],
        latents: Packed,
        conditioning: Sequence[tuple[int, ...]],
        statistics: LatentStatistics,
    ) -> None:
        """Latents of some samples of one bucket.

        Args:
            image_size: the resolution.
            bucket: its number there.
            numbers: of the samples.
            latents: of each.
            conditioning: of each.
            statistics: of the latents before they were rounded.
        """
        places = np.array(numbers, dtype=np.int64) - self.first
        first = self._counts[image_size][bucket]
        self._bucket[image_size][places] = bucket
        self._row[image_size][places] = np.arange(first, first + len(places))
        self._conditioning[image_size][places] = np.array(conditioning, dtype=np.int32)
        self._latents[image_size, bucket].append(latents)
        self._counts[image_size][bucket] += len(places)
        self._statistics[image_size] = self._statistics[image_size] + statistics

    def add_texts(self, states: Mapping[str, TextRows], count: int) -> int:
        """States of some captions.

        Args:
            states: by encoder.
            count: captions.

        Returns:
            The row of the first.
        """
        for name, rows in states.items():
            self._texts[name].append(rows)
        self._text_rows += count
        return self._text_rows - count

    def set_caption(self, number: int, kind: int, row: int) -> None:
        """Which row has the states of a sample's caption.

        Args:
            number: of the sample.
            kind: its place among the kinds of the recipe.
            row: of the states.
        """
        self._caption[number - self.first, kind] = row

    @property
    def bytes(self) -> int:
        """Of all numbers that are in it so far."""
        return sum(tensor.bytes for tensor in self._tensors().values())

    def write(self, folder: Path) -> ShardRecord:
        """Write the shard; when its record is there, it counts.

        Args:
            folder: of the store.
        """
        tensors = layout.shard_file(folder, self.shard, "safetensors")
        tensors.parent.mkdir(parents=True, exist_ok=True)
        files = {
            "safetensors": write_tensors(tensors, self._tensors()),
            "parquet": self._write_table(layout.shard_file(folder, self.shard, "parquet")),
        }
        rows = self.rows.values()
        record = ShardRecord(
            shard=self.shard,
            recipe=self.recipe.hash,
            samples=self.count,
            counts={size: tuple(counts) for size, counts in self._counts.items()},
            small=self.small,
            filtered=sum(row.left_out == FILTERED for row in rows),
            captions={kind: sum(kind in row.captions for row in rows) for kind in self.recipe.captions.kinds},
            texts=self._text_rows,
            statistics=self._statistics,
            left_out=tuple(self.skipped),
            files=files,
        )
        write_record(folder, record)
        return record

    def _tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {layout.SAMPLE_CAPTION: Tensor(parts=[self._caption])}
        for resolution in self.recipe.resolutions:
            size = resolution.image_size
            found[layout.sample_bucket(size)] = Tensor(parts=[self._bucket[size]])
            found[layout.sample_row(size)] = Tensor(parts=[self._row[size]])
            found[layout.sample_conditioning(size)] = Tensor(parts=[self._conditioning[size]])
            for number, bucket in enumerate(resolution.buckets):
                if parts := self._latents.get((size, number)):
                    found |= packed_tensors(layout.latents(size, bucket.name), parts)
        for encoder, rows in self._texts.items():
            found |= _text_tensors(encoder, rows)
        return found

    def _write_table(self, file: Path) -> Written:
        import polars as pl

        rows = [self.rows[number] for number in range(self.first, self.first + self.count)]
        scores = sorted({name for row in rows for name in row.scores})
        columns: dict[str, Any] = {
            "number": pl.Series(range(self.first, self.first + self.count), dtype=pl.Int64),
            "key": pl.Series([row.key for row in rows], dtype=pl.String),
            "shard": pl.Series([row.shard for row in rows], dtype=pl.String),
            "place": pl.Series([row.place for row in rows], dtype=pl.Int64),
            "height": pl.Series([row.size and row.size[0] for row in rows], dtype=pl.Int32),
            "width": pl.Series([row.size and row.size[1] for row in rows], dtype=pl.Int32),
            "label": pl.Series([row.label for row in rows], dtype=pl.String),
            "left_out": pl.Series([row.left_out for row in rows], dtype=pl.String),
        }
        for kind in self.recipe.captions.kinds:
            columns[f"caption.{kind}"] = pl.Series([row.captions.get(kind) for row in rows], dtype=pl.String)
        for name in scores:
            columns[f"score.{name}"] = pl.Series([row.scores.get(name) for row in rows], dtype=pl.Float64)
        buffer = io.BytesIO()
        pl.DataFrame(columns).write_parquet(buffer, compression="zstd")
        return write_bytes(file, buffer.getvalue())


def packed_tensors(name: str, parts: Sequence[Packed]) -> dict[str, Tensor]:
    """Packed numbers as tensors of a file.

    Args:
        name: of the tensor.
        parts: that lie one after another.
    """
    found = {name: Tensor(parts=[part.bits for part in parts], code=CODES[parts[0].storage])}
    exponents = [part.exponents for part in parts if part.exponents is not None]
    if exponents:
        found[layout.exponents(name)] = Tensor(parts=exponents)
    return found


def _text_tensors(encoder: str, rows: Sequence[TextRows]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    tokens = [each.tokens for each in rows if each.tokens is not None]
    pooled = [each.pooled for each in rows if each.pooled is not None]
    lengths = [each.lengths for each in rows if each.lengths is not None]
    if lengths:
        ends = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        found[layout.starts(encoder)] = Tensor(parts=[np.concatenate([np.zeros(1, dtype=np.int64), ends])])
    if tokens:
        found |= packed_tensors(layout.tokens(encoder), tokens)
    if pooled:
        found |= packed_tensors(layout.pooled(encoder), pooled)
    return found
