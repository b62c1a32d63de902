"""Scores that need no model: size, length of the caption, perceptual hash, and what the source says itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prx_scale.data.filters.base import Caption, Columns, Preparer, Scorer, Seen, Type
from prx_scale.data.filters.phash import ENOUGH, perceptual_hash

HASH = "phash"
PIXELS = "pixels"
BYTES = "file_bytes"


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    side: int = 0

    def __call__(self, seen: Seen) -> tuple[int | float, ...]:
        height, width = seen.size
        return height, width, min(height, width), height * width, width / height, len(seen.sample.image)


@dataclass(frozen=True, kw_only=True)
class _Lengths:
    caption: Caption
    side: int = 0

    def __call__(self, seen: Seen) -> tuple[int | None, ...]:
        text = self.caption.of(seen.sample)
        return (None, None) if text is None else (len(text), len(text.split()))


@dataclass(frozen=True, kw_only=True)
class _Hashed:
    side: int = ENOUGH

    def __call__(self, seen: Seen) -> tuple[int]:
        assert seen.pixels is not None
        return (perceptual_hash(seen.pixels),)


@dataclass(frozen=True, kw_only=True)
class _Said:
    names: tuple[str, ...]
    side: int = 0

    def __call__(self, seen: Seen) -> tuple[float | str | None, ...]:
        return (*(seen.sample.scores.get(name) for name in self.names), seen.sample.label)


class PlainScorer(Scorer):
    """A scorer whose whole work is done where the image is decoded."""

    def __init__(
        self, name: str, columns: Mapping[str, Type], prepare: Preparer, identity: Mapping[str, Any] | None = None
    ) -> None:
        self.name, self.columns, self.prepare = name, columns, prepare
        self.identity = {"scorer": name, "version": 1, **(identity or {})}

    def score(self, prepared: Sequence[Any]) -> Columns:
        """The scores of samples, which are prepared as rows of them."""
        return dict(zip(self.columns, zip(*prepared, strict=True), strict=True)) if prepared else {}


def size_scorer() -> Scorer:
    """height, width, min_side, pixels, aspect (width / height) of the upright image, and file_bytes."""
    columns: dict[str, Type] = {"height": "int", "width": "int", "min_side": "int", PIXELS: "int"}
    return PlainScorer("size", {**columns, "aspect": "float", BYTES: "int"}, _Sizes())


def length_scorer(caption: Caption) -> Scorer:
    """caption_chars and caption_words, words being what blanks part.

    Args:
        caption: which one.
    """
    columns: dict[str, Type] = {"caption_chars": "int", "caption_words": "int"}
    return PlainScorer("caption length", columns, _Lengths(caption=caption), {"caption": asdict(caption)})


def hash_scorer() -> Scorer:
    """phash: the perceptual hash, from which copies are found."""
    return PlainScorer("perceptual hash", {HASH: "hash"}, _Hashed())


def source_scorer(fields: Mapping[str, str], label: str = "") -> Scorer:
    """Scores that the source has already, and the class.

    Args:
        fields: field by name of score.
        label: field of the class, if it is named.
    """
    columns: dict[str, Type] = {name: "float" for name in fields}
    columns["label"] = "text"
    return PlainScorer("source", columns, _Said(names=tuple(fields)), {"fields": dict(fields), "label": label})
