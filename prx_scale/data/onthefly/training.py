"""Samples that are encoded on the fly, as training and validation take them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.onthefly.stream import OnTheFly, Streamed
from prx_scale.data.store import Store
from prx_scale.data.store.batch import EncodedBatch, from_arrays
from prx_scale.data.stored import StoredSamples, latent_scale, samples_of
from prx_scale.diffusion.draws import Purpose
from prx_scale.models.encoders.image.normalisation import LatentScale, published_scale

Numbers = NDArray[np.int64]


def scale_of(stream: OnTheFly) -> LatentScale:
    """How latents are normalised: as published, or as a store that they come out of says.

    Args:
        stream: of micro-batches.
    """
    production = stream.production
    if production.store is not None:
        return latent_scale(Store.open(production.store, check_files=False))
    scale = published_scale(production.setup.plan.draft.image_spec)
    assert scale is not None, "a study without one is refused"
    return scale


class StreamedTraining:
    """What the steps of a run train on, as processes encode it."""

    def __init__(self, stream: OnTheFly) -> None:
        """Nothing is started yet.

        Args:
            stream: of micro-batches.
        """
        self.stream, self.turns, self.scale = stream, stream.planner.turns, scale_of(stream)

    def after(self, seen: int) -> tuple[RunConfig, Coming]:
        """The run that a step's batch is of, and its samples by place in training.

        Args:
            seen: samples of all processes before it, or in the middle of it.
        """
        run = self.turns.after(seen).run
        return run, Coming(stream=self.stream, scale=self.scale, run=run, seen=seen)


@dataclass(frozen=True, kw_only=True)
class Coming:
    """The micro-batch after some samples."""

    stream: OnTheFly
    scale: LatentScale
    run: RunConfig
    seen: int

    def batch(self, indices: Numbers) -> StoredSamples:
        """Its samples.

        Args:
            indices: (B,) their places in training.
        """
        found = self.stream.take(self.seen)
        assert np.array_equal(found.places, indices), f"places {found.places} came for {indices}"
        return samples_of(self.run, self.scale, found.batch, self.run.training.seed, Purpose.LATENTS, indices)


class StreamedHeldout:
    """The samples that runs are validated on, encoded once; see `StoredHeldout`."""

    def __init__(self, stream: OnTheFly) -> None:
        """Nothing is started yet.

        Args:
            stream: of micro-batches.
        """
        self.stream, self.scale = stream, scale_of(stream)
        self.run = stream.production.schedule.run

    def batch(self, indices: Numbers) -> StoredSamples:
        """The held-out samples of given places, of one bucket.

        Args:
            indices: (B,) places from 0 to [validation] images - 1.
        """
        group, places = next(each for each in self._groups if indices[0] in each[1])
        rows = np.searchsorted(places, indices)
        draft = self.stream.production.setup.plan.draft
        arrays = {name: values[rows] for name, values in group.arrays().items()}
        encoded = from_arrays(arrays, group.bucket, draft.latents, draft.states)
        return samples_of(self.run, self.scale, encoded, self.run.data.seed, Purpose.HELDOUT_LATENTS, indices)

    def of_one_shape(self) -> list[Numbers]:
        """All places, those of each bucket together."""
        return [places for _, places in self._groups]

    @cached_property
    def _groups(self) -> list[tuple[EncodedBatch, Numbers]]:
        """Samples of each bucket, and their places in ascending order."""
        found: dict[str, list[Streamed]] = {}
        for each in self.stream.heldout():
            found.setdefault(each.batch.bucket.name, []).append(each)
        return [(self._joined(parts), np.concatenate([part.places for part in parts])) for parts in found.values()]

    def _joined(self, parts: list[Streamed]) -> EncodedBatch:
        draft = self.stream.production.setup.plan.draft
        arrays = [part.batch.arrays() for part in parts]
        joined = {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}
        return from_arrays(joined, parts[0].batch.bucket, draft.latents, draft.states)
