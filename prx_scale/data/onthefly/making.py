"""Making one micro-batch: images decoded and encoded, or latents out of a store, and captions encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from prx_scale.data.captions import CaptionMix
from prx_scale.data.encoding.encoders import Encoders, as_batch
from prx_scale.data.encoding.oneshard import Work
from prx_scale.data.encoding.preparing import Framed, Prepared, Preparer
from prx_scale.data.encoding.reading import Numbered, prepared
from prx_scale.data.heldout import heldout_kinds
from prx_scale.data.onthefly.schedule import Planner, Wanted
from prx_scale.data.samples import Skip, Skipped
from prx_scale.data.sources.base import Source
from prx_scale.data.store import Store
from prx_scale.data.store.batch import EncodedBatch, States
from prx_scale.data.store.recipe import Recipe
from prx_scale.errors import InputError

_STAND_INS = 64


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A caption."""

    kind: int
    """Place among the recipe's kinds, -1 for the empty caption."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How the caption of a sample is drawn."""

    mix: CaptionMix
    seed: int
    """Of the draws, which belong to places in training."""

    def choose(self, kinds: Sequence[str], captions: Mapping[str, str], wanted: Wanted, row: int) -> Chosen | None:
        """The caption of a sample: out of the mix for training, any that it has for validation.

        Args:
            kinds: that kinds are numbered by.
            captions: of the sample, by kind.
            wanted: the micro-batch.
            row: of the sample in it.

        Returns:
            None where the sample is left out.
        """
        names = tuple(kinds) if wanted.heldout else self.mix.kinds
        available = np.array([[kind in captions for kind in names]], dtype=np.bool_)
        if wanted.heldout:
            drawn = heldout_kinds(available, wanted.numbers[row : row + 1]) if names else np.array([-1])
        else:
            drawn = self.mix.choose_kinds(available, seed=self.seed, indices=wanted.places[row : row + 1])
        if (chosen := int(drawn[0])) >= 0:
            return Chosen(kind=kinds.index(names[chosen]), text=captions[names[chosen]])
        return Chosen(kind=-1, text="") if wanted.heldout or self.mix.missing == "empty" else None


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeBatch:
    """A micro-batch, and what could not be used for it."""

    batch: EncodedBatch
    skipped: tuple[Skipped, ...] = ()
    """Samples that others stand in for."""


class Maker(Protocol):
    """Makes micro-batches."""

    @property
    def recipe(self) -> Recipe:
        """What its numbers depend on."""
        ...

    def make(self, wanted: Wanted) -> MadeBatch:
        """Make one.

        Args:
            wanted: its samples.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class _Usable:
    number: int
    image: Framed
    caption: Chosen


class FromImages:
    """Everything is encoded."""

    def __init__(self, work: Work, more: Sequence[Source], planner: Planner, drawn: Drawn) -> None:
        """Take what it needs.

        Args:
            work: data of the schedule's first material, and loaded encoders.
            more: data of the others.
            planner: knows what stands in for a sample.
            drawn: how captions are.
        """
        self._work, self._planner, self._drawn = work, planner, drawn
        self._data = [work.data, *map(Numbered, more)]
        self.recipe = work.recipe
        self._preparers = {
            each.image_size: replace(work.preparer, resolutions=(each,)) for each in self.recipe.resolutions
        }

    def make(self, wanted: Wanted) -> MadeBatch:
        """Make a micro-batch.

        Args:
            wanted: its samples.

        Raises:
            InputError: many samples in a row cannot be used, or an encoder gives what cannot be stored.
        """
        skipped: list[Skipped] = []
        samples: list[_Usable] = []
        preparer = self._preparers[wanted.image_size]
        for row, found in enumerate(self._prepared(wanted, preparer)):
            usable = self._usable(found, wanted, row)
            if isinstance(usable, Skipped):
                skipped.append(usable)
                usable = self._stand_in(wanted, row)
            samples.append(usable)
        recipe, encoders = self.recipe, self._work.encoders
        latents, _ = encoders.images([each.image.pixels for each in samples], recipe.latents)
        return MadeBatch(
            batch=EncodedBatch(
                numbers=np.array([each.number for each in samples], dtype=np.int64),
                bucket=preparer.resolutions[0].buckets[wanted.bucket],
                latents=latents,
                conditioning=np.array([each.image.conditioning for each in samples], dtype=np.int32),
                captions=np.array([each.caption.kind for each in samples], dtype=np.int32),
                states=states_of_texts(encoders, recipe, [each.caption.text for each in samples]),
            ),
            skipped=tuple(skipped),
        )

    def _prepared(self, wanted: Wanted, preparer: Preparer) -> Iterable[Prepared | Skipped]:
        """The samples in their order, those of one source after those of another."""
        ready: dict[int, Prepared | Skipped] = {}
        for material in np.unique(wanted.materials).tolist():
            rows = np.flatnonzero(wanted.materials == material)
            found = prepared(self._data[material], wanted.numbers[rows], preparer, self._work.threads)
            ready |= {row: each for row, (_, each) in zip(rows.tolist(), found, strict=True)}
        return (ready[row] for row in range(len(wanted.numbers)))

    def _usable(self, found: Prepared | Skipped, wanted: Wanted, row: int) -> _Usable | Skipped:
        if isinstance(found, Skipped):
            return found
        image = next((each for each in found.images if each.bucket == wanted.bucket), None)
        if image is None:
            return Skipped(
                key=found.key,
                shard=found.shard,
                reason=Skip.CORRUPT_IMAGE,
                detail=f"{found.size[0]} x {found.size[1]} is another size than when it was looked up",
            )
        caption = self._drawn.choose(self.recipe.captions.kinds, found.captions, wanted, row)
        if caption is None:
            return Skipped(key=found.key, shard=found.shard, reason=Skip.NO_CAPTION)
        return _Usable(number=found.number, image=image, caption=caption)

    def _stand_in(self, wanted: Wanted, row: int) -> _Usable:
        for attempt in range(_STAND_INS):
            number = np.array([self._planner.stand_in(wanted, row, attempt)], dtype=np.int64)
            data = self._data[int(wanted.materials[row])]
            ((_, found),) = prepared(data, number, self._preparers[wanted.image_size], 1)
            usable = self._usable(found, wanted, row)
            if isinstance(usable, _Usable):
                return usable
        spec = self._data[int(wanted.materials[row])].source.spec
        raise InputError(f"{spec}: {_STAND_INS} samples drawn at random cannot be used")


class FromStore:
    """Latents come out of a store that has captions as text, which are encoded."""

    def __init__(self, folder: Path, recipe: Recipe, encoders: Encoders, drawn: Drawn) -> None:
        """Open the store.

        Args:
            folder: of the store.
            recipe: of what is made.
            encoders: of captions, loaded.
            drawn: how captions are.

        Raises:
            InputError: there is no such store.
        """
        self._store = Store.open(folder, check_files=False)
        self._view = lru_cache(maxsize=None)(self._store.at)
        self._encoders, self._drawn, self.recipe = encoders, drawn, recipe

    def make(self, wanted: Wanted) -> MadeBatch:
        """Make a micro-batch.

        Args:
            wanted: its samples.

        Raises:
            InputError: a sample has no caption, or the store is damaged.
        """
        store = self._store
        stored, captions = self._view(wanted.image_size).batch(wanted.numbers), store.captions(wanted.numbers)
        chosen = [self._drawn.choose(store.kinds, each, wanted, row) for row, each in enumerate(captions)]
        if None in chosen:
            number = wanted.numbers[chosen.index(None)]
            raise InputError(f"{store.folder}: sample {number} has no caption that is trained on")
        found = [each for each in chosen if each is not None]
        kinds = np.array([each.kind for each in found], dtype=np.int32)
        states = states_of_texts(self._encoders, self.recipe, [each.text for each in found])
        return MadeBatch(batch=replace(stored, captions=kinds, states=states))


def states_of_texts(encoders: Encoders, recipe: Recipe, texts: Sequence[str]) -> dict[str, States]:
    """Text states of a batch; a caption that comes twice is encoded once.

    Args:
        encoders: that are loaded.
        recipe: says how they are stored.
        texts: of the samples.
    """
    if not encoders.text:
        return {}
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    found = encoders.captions(list(rows), recipe.states, pooled_only=recipe.pooled_only)
    picked = [rows[text] for text in texts]
    return {spec.name: as_batch(found[spec.name], spec, picked) for spec in recipe.text_specs}
