"""A part of another source: what a filter kept, with what it weighted more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.sources.base import Counts, Item, Source
from prx_scale.errors import InputError


class SelectedSource(Source):
    """Chosen places of a source; nothing is copied.

    Args:
        source: all samples.
        places: for each shard the places that stay, in the order that they shall have; one that is there twice is a
            sample twice.

    Raises:
        InputError: places of other shards than the source's, or past the end of one.
    """

    def __init__(self, source: Source, places: Sequence[NDArray[np.integer]]) -> None:
        self.spec, self.shards, self.locality = source.spec, source.shards, source.locality
        self._source, self._places = source, tuple(places)
        if len(self._places) != len(source.shards):
            raise InputError(f"{source.spec}: has {len(source.shards)} shards, the choice is of {len(self._places)}")
        for name, count, chosen in zip(source.shards, source.counts().tolist(), self._places, strict=True):
            if len(chosen) and not 0 <= chosen.min() <= chosen.max() < count:
                raise InputError(
                    f"{source.spec}: {name} has {count} samples; places {chosen.min()} to {chosen.max()} are chosen: "
                    "the choice was made for other data"
                )

    def counts(self) -> Counts:
        """Chosen places of each shard (S,)."""
        return np.array([len(chosen) for chosen in self._places], dtype=np.int64)

    def fingerprint(self) -> str:
        """Short hash of the source and of what was chosen."""
        digest = hashlib.sha256(self._source.fingerprint().encode())
        for chosen in self._places:
            digest.update(len(chosen).to_bytes(8, "little") + chosen.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def fetch(self, wanted: Sequence[tuple[int, int]]) -> list[Item]:
        """Read samples; see :meth:`Source.fetch`."""
        return self._source.fetch([(shard, int(self._places[shard][place])) for shard, place in wanted])
