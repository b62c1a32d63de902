"""A record of any format as a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources.base import Item
from prx_scale.data.sources.fields import (
    IMAGES,
    Fields,
    Record,
    captions_of,
    label_of,
    lookup,
    scores_of,
    size_of,
)

OpenNamed = Callable[[str], bytes | None]
"""Reads the file that a record names instead of holding it; None where there is no such file."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """The place of a record."""

    key: str
    shard: str
    place: int

    def skipped(self, reason: Skip, detail: str = "") -> Skipped:
        """This place, left out."""
        return Skipped(key=self.key, shard=self.shard, reason=reason, detail=detail)


def nothing_named(name: str) -> bytes | None:
    """For formats in which no record names a file."""
    return None


def as_sample(record: Record, where: Where, fields: Fields, named: OpenNamed = nothing_named) -> Item:
    """The sample that a record holds, or why it holds none.

    Args:
        record: its fields.
        where: names it.
        fields: which field is what.
        named: reads an image that the record only names.
    """
    image = _image(record, fields, named)
    if not image:
        return where.skipped(Skip.NO_IMAGE, f"its fields: {', '.join(sorted(record)) or 'none'}")
    captions, label = captions_of(record, fields), label_of(record, fields)
    if fields.need_caption and not captions and label is None:
        return where.skipped(Skip.NO_CAPTION, f"its fields: {', '.join(sorted(record))}")
    return RawSample(
        key=where.key,
        image=image,
        captions=captions,
        scores=scores_of(record, fields),
        size=size_of(record, fields),
        label=label,
        shard=where.shard,
        place=where.place,
    )


def _image(record: Record, fields: Fields, named: OpenNamed) -> bytes | None:
    for name in (fields.image,) if fields.image else IMAGES:
        value = lookup(record, name)
        if isinstance(value, Mapping):
            # Hugging Face's Image feature: the file's contents, or else only its path.
            value = cast("Mapping[str, object]", value)
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            value = named(value)
        if isinstance(value, bytes | bytearray) and len(value):
            return bytes(value)
    return None
