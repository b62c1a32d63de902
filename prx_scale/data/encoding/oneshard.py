"""Encoding one shard of a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.encoding.encoders import CAPTIONS_AT_ONCE, Encoders, images_at_once
from prx_scale.data.encoding.preparing import Framed, Prepared, Preparer
from prx_scale.data.encoding.reading import Numbered, prepared
from prx_scale.data.samples import Skipped
from prx_scale.data.store.recipe import Recipe
from prx_scale.data.store.shards import FILTERED, ShardBuilder, TableRow
from prx_scale.errors import InputError

EMPTY = ""
"""The caption of row 0."""
_CAPTIONS = 4 * CAPTIONS_AT_ONCE
TOO_SMALL = "too small"
"""Why a sample has no latents, in the table, where it is too small for all resolutions."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What shards are made of."""

    recipe: Recipe
    data: Numbered
    preparer: Preparer
    encoders: Encoders
    keep: Mask | None = None
    """(N,) which samples a filter kept."""
    threads: int = 1
    """That decode."""


def encode_shard(work: Work, shard: int, step: Callable[[int], None] = lambda done: None) -> ShardBuilder:
    """Encode the samples of one shard.

    Args:
        work: what it is made of.
        shard: its number.
        step: is told now and then how many more samples are done; what it raises ends the work.
    """
    builder = ShardBuilder(work.recipe, shard)
    queues = _Queues(work, builder)
    first, stop = work.recipe.range(shard)
    numbers = np.arange(first, stop, dtype=np.int64)
    if work.keep is not None:
        _filter(work, builder, numbers[~work.keep[first:stop]])
        numbers = numbers[work.keep[first:stop]]
    for number, sample in prepared(work.data, numbers, work.preparer, work.threads):
        if isinstance(sample, Skipped):
            _skip(work, builder, number, sample)
        else:
            queues.add(sample)
        step(1)
    queues.flush()
    step(builder.count - len(numbers))
    return builder


def _filter(work: Work, builder: ShardBuilder, numbers: NDArray[np.int64]) -> None:
    for number, (shard, place) in zip(numbers.tolist(), work.data.places(numbers), strict=True):
        name = work.data.source.shards[shard]
        builder.rows[number] = TableRow(key="", shard=name, place=place, left_out=FILTERED)


def _skip(work: Work, builder: ShardBuilder, number: int, sample: Skipped) -> None:
    ((_, place),) = work.data.places(np.array([number]))
    builder.skipped.append(sample)
    builder.rows[number] = TableRow(key=sample.key, shard=sample.shard, place=place, left_out=str(sample.reason))


class _Queues:
    """Images that wait for others of their size, and captions."""

    def __init__(self, work: Work, builder: ShardBuilder) -> None:
        self._work, self._builder = work, builder
        self._images: dict[tuple[int, int], list[tuple[Prepared, Framed]]] = defaultdict(list)
        self._rows: dict[str, int] = {}
        """Of the captions that are encoded or wait."""
        self._texts: list[str] = []
        if work.encoders.text:
            self._row_of(EMPTY)

    def add(self, sample: Prepared) -> None:
        reason = None if sample.images else TOO_SMALL
        self._builder.rows[sample.number] = TableRow(
            key=sample.key,
            shard=sample.shard,
            place=sample.place,
            size=sample.size,
            captions=sample.captions,
            scores=sample.scores,
            label=sample.label,
            left_out=reason,
        )
        there = {image.image_size for image in sample.images}
        for size in self._builder.small:
            self._builder.small[size] += size not in there
        for image in sample.images:
            self._add_image(sample, image)
        if sample.images:
            self._add_captions(sample)

    def flush(self) -> None:
        for key in sorted(self._images):
            self._encode_images(*key)
        while self._texts:
            self._encode_texts()

    def _add_image(self, sample: Prepared, image: Framed) -> None:
        waiting = self._images[image.image_size, image.bucket]
        waiting.append((sample, image))
        if len(waiting) >= images_at_once(*image.pixels.shape[:2]):
            self._encode_images(image.image_size, image.bucket)

    def _add_captions(self, sample: Prepared) -> None:
        kinds = self._work.recipe.captions.kinds
        for kind, text in sample.captions.items():
            row = self._row_of(text) if self._work.encoders.text else 0
            self._builder.set_caption(sample.number, kinds.index(kind), row)
        while len(self._texts) >= _CAPTIONS:
            self._encode_texts()

    def _row_of(self, text: str) -> int:
        if text not in self._rows:
            self._rows[text] = len(self._rows)
            self._texts.append(text)
        return self._rows[text]

    def _encode_images(self, image_size: int, bucket: int) -> None:
        waiting = self._images.pop((image_size, bucket), [])
        if not waiting:
            return
        try:
            latents, statistics = self._work.encoders.images(
                [image.pixels for _, image in waiting], self._work.recipe.latents
            )
        except InputError as error:
            keys = f"{waiting[0][0].key} to {waiting[-1][0].key}"
            raise InputError(f"{error}; among the images {keys}") from error
        self._builder.add_latents(
            image_size,
            bucket,
            [sample.number for sample, _ in waiting],
            latents,
            [image.conditioning for _, image in waiting],
            statistics,
        )

    def _encode_texts(self) -> None:
        recipe = self._work.recipe
        texts, self._texts = self._texts[:_CAPTIONS], self._texts[_CAPTIONS:]
        states = self._work.encoders.captions(texts, recipe.states, pooled_only=recipe.pooled_only)
        self._builder.add_texts(states, len(texts))
