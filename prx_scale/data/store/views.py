"""The samples of a store at one resolution, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.store import layout
from prx_scale.data.store.batch import EncodedBatch, Numbers, States
from prx_scale.data.store.recipe import Recipe, Resolution
from prx_scale.data.store.shardreader import ShardReader
from prx_scale.data.store.storage import Packed, empty
from prx_scale.data.store.tensorfile import mapped
from prx_scale.errors import InputError
from prx_scale.models.encoders.registry import TextSpec
from prx_scale.models.sizes import SIZES

if TYPE_CHECKING:
    from prx_scale.data.store.reader import Store


class StoreView:
    """The samples of a store at one resolution."""

    def __init__(self, store: Store, resolution: Resolution) -> None:
        """What `Store.at` makes.

        Args:
            store: all of it.
            resolution: of the latents.
        """
        self.store, self.image_size, self.buckets = store, resolution.image_size, resolution.buckets

    @cached_property
    def assigned(self) -> NDArray[np.int16]:
        """(N,) bucket of each sample, -1 where it has no latents; mapped from a file."""
        return mapped(layout.buckets_file(self.store.folder, self.image_size), len(self.store))

    def with_captions(self, kinds: Sequence[str]) -> NDArray[np.int16]:
        """(N,) the same, and -1 too where a sample has a caption of none of some kinds.

        Args:
            kinds: of captions.
        """
        found = np.array(self.assigned)
        for start in range(0, len(found), 1 << 20):
            numbers = np.arange(start, min(start + (1 << 20), len(found)))
            found[numbers[~self.store.available(numbers, kinds).any(axis=1)]] = -1
        return found

    def batch(self, numbers: Numbers, captions: NDArray[np.integer[Any]] | None = None) -> EncodedBatch:
        """Samples of one bucket.

        Args:
            numbers: (B,) of the samples, at least one.
            captions: (B,) places in the store's `kinds`, -1 for the empty caption; None reads no text states.

        Raises:
            InputError: samples of several buckets or without latents, a kind that a sample lacks, or a file that is
                missing or damaged.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        kinds = np.full(len(numbers), -1, dtype=np.int32) if captions is None else captions.astype(np.int32)
        bucket = self._bucket_of(numbers)
        recipe = self.store.recipe
        room = _Room(recipe, len(numbers), recipe.latent_shape(self.buckets[bucket]), texts=captions is not None)
        for shard, places, inside in self.store.by_shard(numbers):
            reader = self.store.shard(shard)
            room.conditioning[places] = reader.conditioning[self.image_size][inside]
            rows = reader.row[self.image_size][inside]
            if (rows < 0).any() or (reader.bucket[self.image_size][inside] != bucket).any():
                raise InputError(f"{reader.tensors.file}: its samples are not those of {self.image_size} pixels' list")
            name = layout.latents(self.image_size, self.buckets[bucket].name)
            room.read_packed(reader, name, rows, room.latents, places)
            if captions is not None:
                room.read_states(reader, _text_rows(reader, inside, kinds[places]), places)
        return EncodedBatch(
            numbers=numbers,
            bucket=self.buckets[bucket],
            latents=room.latents,
            conditioning=room.conditioning,
            captions=kinds,
            states=room.states,
        )

    def _bucket_of(self, numbers: Numbers) -> int:
        buckets = np.unique(self.assigned[numbers])
        if len(buckets) != 1 or buckets[0] < 0:
            raise InputError(
                f"{self.store.folder}: a batch has samples of one bucket; these are of {buckets.tolist()}, where -1 "
                f"has no latents of {self.image_size} pixels"
            )
        return int(buckets[0])


def _text_rows(reader: ShardReader, inside: Numbers, kinds: NDArray[np.int32]) -> NDArray[np.int32]:
    rows = np.where(kinds < 0, 0, reader.captions[inside, kinds] if reader.captions.shape[1] else 0)
    if (rows < 0).any():
        raise InputError(f"{reader.tensors.file}: a sample lacks the kind of caption that it was drawn")
    return rows.astype(np.int32)


class _Room:
    """Arrays of a batch that is being read."""

    def __init__(self, recipe: Recipe, count: int, shape: tuple[int, ...], *, texts: bool) -> None:
        self._recipe = recipe
        self.conditioning = np.empty((count, SIZES), dtype=np.int32)
        self.latents = empty((count, *shape), recipe.latents, row_axes=len(shape) - 1)
        self.states = {spec.name: self._states(spec, count) for spec in recipe.text_specs} if texts else {}

    def _states(self, spec: TextSpec, count: int) -> States:
        storage, alone = self._recipe.states, self._recipe.pooled_only
        return States(
            tokens=None if alone else empty((count, spec.tokens, spec.width), storage, row_axes=1),
            pooled=empty((count, spec.pooled), storage, row_axes=1) if spec.pooled else None,
            lengths=np.empty(count, dtype=np.int32) if spec.masked and not alone else None,
        )

    def read_states(self, reader: ShardReader, rows: NDArray[np.int32], places: Numbers) -> None:
        for name, states in self.states.items():
            if states.pooled is not None:
                self.read_packed(reader, layout.pooled(name), rows, states.pooled, places)
            if states.tokens is None:
                continue
            if states.lengths is None:
                self.read_packed(reader, layout.tokens(name), rows, states.tokens, places)
            else:
                _read_unpadded(reader, name, rows, states.tokens, states.lengths, places)

    def read_packed(self, reader: ShardReader, name: str, rows: NDArray[Any], into: Packed, places: Numbers) -> None:
        entry = reader.tensors.entries.get(name)
        if entry is None or entry.shape[1:] != into.bits.shape[1:]:
            found = "none" if entry is None else str(entry.shape[1:])
            raise InputError(f"{reader.tensors.file}: damaged: {name} has shape {found}, not {into.bits.shape[1:]}")
        reader.tensors.rows(name, rows, into.bits, places)
        if into.exponents is not None:
            reader.tensors.rows(layout.exponents(name), rows, into.exponents, places)


def _read_unpadded(
    reader: ShardReader,
    encoder: str,
    rows: NDArray[np.int32],
    into: Packed,
    lengths: NDArray[np.int32],
    places: Numbers,
) -> None:
    starts, name = reader.starts[encoder], layout.tokens(encoder)
    parts: list[tuple[str, NDArray[Any]]] = [(name, into.bits)]
    if into.exponents is not None:
        parts.append((layout.exponents(name), into.exponents))
    for place, first, stop in zip(places.tolist(), starts[rows].tolist(), starts[rows + 1].tolist(), strict=True):
        lengths[place] = stop - first
        for tensor, array in parts:
            reader.tensors.span(tensor, first, stop, array[place].data.cast("B"))
            array[place, stop - first :] = 0
