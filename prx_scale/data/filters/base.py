"""What a scorer is: it prepares a sample where the image is decoded, and scores batches where its model is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from prx_scale.data.decode import Pixels
from prx_scale.data.samples import ORIGINAL, RawSample
from prx_scale.data.sources.base import Source

Type = Literal["float", "int", "hash", "text"]
"""Of a column: float64, int64, unsigned 64 bits, or text."""
Value = float | int | str | None
Columns = Mapping[str, Sequence[Value]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A sample whose image was looked at."""

    sample: RawSample
    size: tuple[int, int]
    """Height and width of the upright image."""
    pixels: Pixels | None
    """(H, W, 3), with a shorter side of at least what was asked for, or all there is; None where none was asked for."""


class Preparer(Protocol):
    """Makes of a sample what a scorer needs of it. It may run in other processes, so it can be pickled."""

    @property
    def side(self) -> int:
        """Shorter side in pixels that is enough; 0 where pixels are not looked at."""
        ...

    def __call__(self, seen: Seen) -> Any:
        """What the scorer needs."""
        ...


class Scorer(ABC):
    """Gives one or more scores to every sample."""

    name: str
    columns: Mapping[str, Type]
    """The scores it gives."""
    prepare: Preparer
    identity: Mapping[str, Any]
    """All that changes its scores, as JSON has it."""

    @abstractmethod
    def score(self, prepared: Sequence[Any]) -> Columns:
        """The scores of samples.

        Args:
            prepared: what `prepare` made of each.

        Returns:
            For every column one value a sample; None where a sample has no such score.
        """

    @property
    def hash(self) -> str:
        """Short hash of its identity."""
        content = {"columns": dict(self.columns), "side": self.prepare.side, **self.identity}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Which caption of a sample is scored."""

    kind: str = ""
    """If empty, the original one, or else the first."""
    field: str = ""
    """Where the source has it; not looked at, but other captions give other scores."""

    def of(self, sample: RawSample) -> str | None:
        """The caption, if the sample has it.

        Args:
            sample: with captions by kind.
        """
        if self.kind:
            return sample.captions.get(self.kind)
        return sample.captions.get(ORIGINAL) or next(iter(sample.captions.values()), None)


def caption_kinds(source: Source) -> set[str]:
    """Kinds of captions that the first samples have.

    Args:
        source: of captioned images.
    """
    first = next(shard for shard in range(len(source.shards)) if source.count(shard))
    return {kind for item in source.samples(first, stop=32) if isinstance(item, RawSample) for kind in item.captions}
