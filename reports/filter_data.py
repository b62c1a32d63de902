"""What the page of a filter shows, as numbers and small pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CutSummary:
    """A cut and what it removes, of the samples that could be used."""

    text: str
    """As it was asked for."""
    shown: str
    """With its threshold as a number."""
    alone: int
    first: int
    only: int
    missing: int
    left: int
    """Samples left after it and those before it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A threshold among the values of a score."""

    text: str
    number: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a score is distributed, in bins."""

    name: str
    edges: tuple[float, ...]
    """One more than bins; what lies outside is counted into the first and last."""
    kept: tuple[int, ...]
    here: tuple[int, ...]
    """Removed by a cut on this score."""
    others: tuple[int, ...]
    """Removed by other cuts only."""
    logarithmic: bool
    whole: bool
    """Whether the values are whole numbers."""
    outside: int
    missing: int
    quantiles: Mapping[float, float]
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample with a small picture."""

    jpeg: bytes
    width: int
    height: int
    key: str
    caption: str
    note: str
    """Its score."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Samples on both sides of a cut."""

    cut: str
    removed: tuple[Example, ...]
    kept: tuple[Example, ...]
    pairs: bool = False
    """Whether each removed one is a copy of the kept one of the same place."""


@dataclass(frozen=True, kw_only=True)
class WeightSummary:
    """A resampling weight."""

    text: str
    shown: str


@dataclass(frozen=True, kw_only=True)
class FilterSummary:
    """A filter and its result."""

    source: str
    samples: int
    kept: int
    removed: int
    skipped: Mapping[str, int]
    """By reason."""
    worst: tuple[tuple[str, int, int], ...]
    """Shards with the most skipped samples: name, skipped, all."""
    cuts: tuple[CutSummary, ...]
    overlaps: tuple[tuple[int, ...], ...]
    copies: int | None
    """Samples that are copies of another; None where they were not looked for."""
    distance: int
    """Bits in which hashes of copies may differ."""
    spreads: tuple[Spread, ...]
    examples: tuple[Examples, ...]
    weights: tuple[WeightSummary, ...]
    heaviest: float
    """Largest weight."""
    effective: float
    """Effective number of samples under the weights."""
    scorers: tuple[tuple[str, str, str], ...]
    """Name, scores, hash of each."""
    provenance: Mapping[str, Any]
