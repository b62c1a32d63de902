"""One captioned image, as every source gives it: the schema between sources, filters, encoders and batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ORIGINAL = "original"
"""The kind of a caption that came with its image, where the source names no kind."""


@dataclass(frozen=True, kw_only=True)
class RawSample:
    """A sample before its image is decoded."""

    key: str
    """Its name, the only one such in the dataset: shard and name in the shard."""
    image: bytes
    """The image file as it is stored."""
    captions: Mapping[str, str] = field(default_factory=dict[str, str])
    """By kind: original, synthetic, long, short ..."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """What is known of it by number: aesthetic, clip_similarity, watermark ..."""
    size: tuple[int, int] | None = None
    """Height and width in pixels where the source says them."""
    label: str | None = None
    """The class, in data that has classes instead of captions."""
    shard: str = ""
    """File that it lies in."""
    place: int = 0
    """Number in its shard, from 0."""


class Skip(StrEnum):
    """Why a sample is left out."""

    NO_IMAGE = "no image"
    NO_CAPTION = "no caption"
    CORRUPT_IMAGE = "corrupt image"
    TRUNCATED_IMAGE = "truncated image"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_FEW_PIXELS = "too few pixels"
    EXTREME_SHAPE = "extreme shape"
    UNKNOWN_FORMAT = "unknown format"
    CORRUPT_SHARD = "corrupt shard"
    CORRUPT_RECORD = "corrupt record"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A sample that is left out, or what is left of a shard."""

    key: str
    shard: str
    reason: Skip
    detail: str = ""
