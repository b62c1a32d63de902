"""Making one micro-batch: images decoded and encoded, or latents out of a store, and captions encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from prx_scale.data.captions import CaptionMix
from prx_scale.data.encoding.encoders import Encoders, as_batch
from prx_scale.data.encoding.oneshard import Work
from prx_scale.data.encoding.preparing import Framed, Prepared
from prx_scale.data.encoding.reading import prepared
from prx_scale.data.onthefly.schedule import Planner, Wanted
from prx_scale.data.samples import Skip, Skipped
from prx_scale.data.store import Store, StoreView
from prx_scale.data.store.batch import EncodedBatch, States
from prx_scale.data.store.recipe import Recipe
from prx_scale.errors import InputError

_STAND_INS = 64


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How the caption of a sample is drawn."""

    mix: CaptionMix
    seed: int
    """Of the draws, which belong to places in training."""


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
    kind: int
    """Place among the recipe's kinds, -1 for the empty caption."""
    text: str


class FromImages:
    """Everything is encoded."""

    def __init__(self, work: Work, planner: Planner, drawn: Drawn) -> None:
        """Take what it needs.

        Args:
            work: data and loaded encoders, for one resolution.
            planner: knows what stands in for a sample.
            drawn: how captions are.
        """
        self._work, self._planner, self._drawn = work, planner, drawn
        self.recipe = work.recipe

    def make(self, wanted: Wanted) -> MadeBatch:
        """Make a micro-batch.

        Args:
            wanted: its samples.

        Raises:
            InputError: many samples in a row cannot be used, or an encoder gives what cannot be stored.
        """
        skipped: list[Skipped] = []
        samples: list[_Usable] = []
        ready = prepared(self._work.data, wanted.numbers, self._work.preparer, self._work.threads)
        for place, (_, found) in zip(wanted.places.tolist(), ready, strict=True):
            usable = self._usable(found, place, wanted.bucket)
            if isinstance(usable, Skipped):
                skipped.append(usable)
                usable = self._stand_in(place, wanted.bucket)
            samples.append(usable)
        recipe, encoders = self.recipe, self._work.encoders
        latents, _ = encoders.images([each.image.pixels for each in samples], recipe.latents)
        return MadeBatch(
            batch=EncodedBatch(
                numbers=np.array([each.number for each in samples], dtype=np.int64),
                bucket=recipe.resolutions[0].buckets[wanted.bucket],
                latents=latents,
                conditioning=np.array([each.image.conditioning for each in samples], dtype=np.int32),
                captions=np.array([each.kind for each in samples], dtype=np.int32),
                states=states_of_texts(encoders, recipe, [each.text for each in samples]),
            ),
            skipped=tuple(skipped),
        )

    def _usable(self, found: Prepared | Skipped, place: int, bucket: int) -> _Usable | Skipped:
        if isinstance(found, Skipped):
            return found
        image = next((each for each in found.images if each.bucket == bucket), None)
        if image is None:
            return Skipped(
                key=found.key,
                shard=found.shard,
                reason=Skip.CORRUPT_IMAGE,
                detail=f"{found.size[0]} x {found.size[1]} is another size than when it was looked up",
            )
        chosen = choose(self._drawn, self.recipe.captions.kinds, found.captions, place)
        if chosen is None:
            return Skipped(key=found.key, shard=found.shard, reason=Skip.NO_CAPTION)
        return _Usable(number=found.number, image=image, kind=chosen[0], text=chosen[1])

    def _stand_in(self, place: int, bucket: int) -> _Usable:
        for attempt in range(_STAND_INS):
            number = np.array([self._planner.stand_in(place, bucket, attempt)], dtype=np.int64)
            ((_, found),) = prepared(self._work.data, number, self._work.preparer, 1)
            usable = self._usable(found, place, bucket)
            if isinstance(usable, _Usable):
                return usable
        raise InputError(f"{self._work.data.source.spec}: {_STAND_INS} samples drawn at random cannot be used")


class FromStore:
    """Latents come out of a store that has captions as text, which are encoded."""

    def __init__(self, folder: Path, image_size: int, recipe: Recipe, encoders: Encoders, drawn: Drawn) -> None:
        """Open the store.

        Args:
            folder: of the store.
            image_size: of the latents.
            recipe: of what is made.
            encoders: of captions, loaded.
            drawn: how captions are.

        Raises:
            InputError: there is no such store.
        """
        self._view: StoreView = Store.open(folder, check_files=False).at(image_size)
        self._encoders, self._drawn, self.recipe = encoders, drawn, recipe

    def make(self, wanted: Wanted) -> MadeBatch:
        """Make a micro-batch.

        Args:
            wanted: its samples.

        Raises:
            InputError: a sample has no caption, or the store is damaged.
        """
        store = self._view.store
        stored, captions = self._view.batch(wanted.numbers), store.captions(wanted.numbers)
        kinds, texts = np.full(len(captions), -1, dtype=np.int32), [""] * len(captions)
        for row, place in enumerate(wanted.places.tolist()):
            chosen = choose(self._drawn, store.kinds, captions[row], place)
            if chosen is None:
                raise InputError(f"{store.folder}: sample {wanted.numbers[row]} has no caption that is trained on")
            kinds[row], texts[row] = chosen
        return MadeBatch(
            batch=EncodedBatch(
                numbers=stored.numbers,
                bucket=stored.bucket,
                latents=stored.latents,
                conditioning=stored.conditioning,
                captions=kinds,
                states=states_of_texts(self._encoders, self.recipe, texts),
            )
        )


def choose(drawn: Drawn, kinds: Sequence[str], captions: Mapping[str, str], place: int) -> tuple[int, str] | None:
    """Kind and text of the caption of a sample.

    Args:
        drawn: how it is drawn.
        kinds: that kinds are numbered by.
        captions: of the sample, by kind.
        place: in training.

    Returns:
        The number of the kind, -1 for the empty caption, and the text; None where the sample is left out.
    """
    mix = drawn.mix
    available = np.array([[kind in captions for kind in mix.kinds]])
    chosen = int(mix.choose_kinds(available, seed=drawn.seed, indices=np.array([place]))[0])
    if chosen < 0:
        return (-1, "") if mix.missing == "empty" else None
    kind = mix.kinds[chosen]
    return kinds.index(kind), captions[kind]


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
