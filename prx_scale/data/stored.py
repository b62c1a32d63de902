"""Samples of stores as training takes them: batches of one bucket, captions drawn by kind, latents sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prx_scale.choices import weights_of
from prx_scale.config import RunConfig
from prx_scale.data.captions import caption_mix
from prx_scale.data.heldout import heldout_kinds, validated_numbers
from prx_scale.data.pools import Pool, PooledBatches
from prx_scale.data.store import Store
from prx_scale.data.store.batch import EncodedBatch
from prx_scale.data.store.packing import moments_of, states_of
from prx_scale.data.trained import available_kinds, check_any, trained_buckets
from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.models.encoders.image.normalisation import LatentScale, LatentStatistics, published_scale
from prx_scale.models.inputs import inputs_of
from prx_scale.stages import as_source
from prx_scale.stagetables import Source
from prx_scale.stores import open_store

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StoredSamples:
    """B samples of one bucket: image (B, C, H, W), context (B, L, D) and pooled (B, P) as stored, and size (B, 6).

    The mask (B, L) is true at real tokens; None where no encoder masks its padding.
    """

    image: Floats
    context: Tensor
    pooled: Tensor
    size: NDArray[np.int32]
    mask: Tensor | None = None


class StoredPart:
    """A store, as all or a part of what a run trains on."""

    def __init__(self, run: RunConfig, where: str = "[data] path") -> None:
        """Open a store.

        Args:
            run: that trains on this store alone.
            where: for errors.

        Raises:
            InputError: the store is another one, or has no sample for the run.
        """
        self.store, self.seed, self.mix = open_store(run, where), run.data.seed, caption_mix(run.captions)
        self.view = self.store.at(run.data.image_size)
        self.weights = weights_of(run.data, self.store.recipe.data.samples)
        self.assigned = trained_buckets(self.store, run.data.image_size, run.captions, run.data.heldout, self.weights)
        check_any(self.assigned, run, run.data.image_size)

    def batch(self, numbers: Numbers, indices: Numbers) -> EncodedBatch:
        """Samples with a caption of those that each has.

        Args:
            numbers: (B,) of the samples, of one bucket.
            indices: (B,) that name the draws.
        """
        available = available_kinds(self.store, numbers, self.mix.kinds)
        kinds = self.mix.choose_kinds(available, seed=self.seed, indices=indices)
        there = self.store.kinds
        of_store = np.array([*(there.index(kind) if kind in there else -1 for kind in self.mix.kinds), -1])
        return self.view.batch(numbers, of_store[kinds])


class StoredTraining:
    """The samples that a run trains on, by their place in training.

    Places s B to (s + 1) B - 1 are the batch of step s over all ranks, all of one bucket, and of all stores of a mix.
    Captions, noise and sampled latents are named by place: the second epoch has others than the first. Latents of all
    stores are normalised as those of [data] are, so that a model sees one space.
    """

    def __init__(self, run: RunConfig, order: int = 0, sources: Sequence[Source] = ()) -> None:
        """Open a run's stores.

        Args:
            run: with its store filled in.
            order: names the order of the samples, which each stage of a run has of its own.
            sources: what a stage trains on, with weights; none is the store of [data].

        Raises:
            InputError: a store is another one, or has no sample for the run.
        """
        self.run, self.scale = run, latent_scale(open_store(run))
        alone = [replace(run, data=as_source(run.data, source)) for source in sources]
        self.parts = [StoredPart(each, "[[stage.data]] path") for each in alone] or [StoredPart(run)]
        weights = [source.weight for source in sources] or [1.0]
        pools = [
            Pool(assigned=part.assigned, starts=part.store.blocks(), weights=part.weights, weight=weight)
            for part, weight in zip(self.parts, weights, strict=True)
        ]
        self.batches = PooledBatches(
            pools, len(self.parts[0].view.buckets), seed=run.data.seed, order=order, batch=run.training.batch
        )

    def batch(self, indices: Numbers) -> StoredSamples:
        """The samples at some places of training, where its order began with training.

        Args:
            indices: (B,) places, all of one step.
        """
        return self.batch_at(indices, indices)

    def batch_at(self, places: Numbers, indices: Numbers) -> StoredSamples:
        """Samples at some places of the order.

        Args:
            places: (B,) of one step.
            indices: (B,) their places in training, which name their draws.
        """
        size = self.run.training.batch
        (step,) = np.unique(places // size)
        planned, within = self.batches.at(int(step)), places % size
        pools, numbers = planned.pools[within], planned.numbers[within]
        rows = [np.flatnonzero(pools == pool) for pool in np.unique(pools)]
        found = [self._samples(int(pools[each[0]]), numbers[each], indices[each]) for each in rows]
        return found[0] if len(found) == 1 else joined(found, rows)

    def _samples(self, pool: int, numbers: Numbers, indices: Numbers) -> StoredSamples:
        encoded = self.parts[pool].batch(numbers, indices)
        return samples_of(self.run, self.scale, encoded, self.run.training.seed, Purpose.LATENTS, indices)


class StoredHeldout:
    """The samples that runs are validated on, the first with the lowest hash.

    Each has one of all its captions, with equal chances, whatever mix a run trains on.
    """

    def __init__(self, run: RunConfig) -> None:
        """Open a run's store.

        Args:
            run: with its store filled in.

        Raises:
            InputError: the store is another one, or too few samples are held out.
        """
        self.run, self.store = run, open_store(run)
        self.view, self.scale = self.store.at(run.data.image_size), latent_scale(self.store)
        self.numbers = validated_numbers(run, self.view.assigned)

    def batch(self, indices: Numbers) -> StoredSamples:
        """The held-out samples of given places, of one bucket.

        Args:
            indices: (B,) places from 0 to [validation] images - 1.
        """
        numbers = self.numbers[indices]
        kinds = np.full(len(numbers), -1)
        if self.store.kinds:
            available = self.store.available(numbers, self.store.kinds)
            kinds = heldout_kinds(available, numbers)
        encoded = self.view.batch(numbers, kinds)
        return samples_of(self.run, self.scale, encoded, self.run.data.seed, Purpose.HELDOUT_LATENTS, indices)

    def of_one_shape(self) -> list[Numbers]:
        """All places, those of each bucket together."""
        buckets = self.view.assigned[self.numbers]
        return [np.flatnonzero(buckets == bucket) for bucket in np.unique(buckets)]


def samples_of(
    run: RunConfig, scale: LatentScale, encoded: EncodedBatch, seed: int, purpose: Purpose, indices: Numbers
) -> StoredSamples:
    """Latents drawn from their moments and normalised, with text states laid into the context.

    Args:
        run: names the encoders and their places.
        scale: of the latents.
        encoded: as stored.
        seed: of the draws.
        purpose: of the draws.
        indices: (B,) that name the draws.
    """
    inputs = inputs_of(run.data)
    moments = moments_of(encoded, inputs.channels)
    noise = None
    if moments.std is not None:
        noise = torch.from_numpy(draw(seed, purpose, indices, tuple(moments.mean.shape[1:])).noise)
    states = states_of(encoded, inputs)
    return StoredSamples(
        image=scale.normalise(moments.sample(noise)).numpy(),
        context=states.tokens,
        pooled=states.pooled,
        size=encoded.conditioning,
        mask=states.mask if inputs.masked else None,
    )


def joined(parts: Sequence[StoredSamples], rows: Sequence[Numbers]) -> StoredSamples:
    """One batch out of parts of one bucket.

    Args:
        parts: samples of each part.
        rows: the places of each in the batch.
    """
    back = np.argsort(np.concatenate(rows))

    def whole(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Tensor):
            return torch.cat(values)[torch.from_numpy(back)]
        return None if values[0] is None else np.concatenate(values)[back]

    return StoredSamples(**{item.name: whole(item.name) for item in fields(StoredSamples)})


def latent_scale(store: Store) -> LatentScale:
    """How a store's latents are normalised: as published, else by what was measured at all its image sizes together.

    Args:
        store: of the latents.
    """
    if published := published_scale(store.recipe.image_spec):
        return published
    parts = (store.statistics(each.image_size) for each in store.recipe.resolutions)
    return reduce(lambda one, other: one + other, parts, LatentStatistics()).scale()
