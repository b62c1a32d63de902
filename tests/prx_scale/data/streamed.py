"""Micro-batches that are encoded on the fly, and those that training on their store has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prx_scale.config import RunConfig
from prx_scale.data.onthefly.opening import Part, open_run
from prx_scale.data.onthefly.schedule import Wanted
from prx_scale.data.onthefly.stream import OnTheFly
from prx_scale.data.store.batch import EncodedBatch
from prx_scale.data.stored import StoredHeldout, StoredTraining
from prx_scale.turns import Turns


def opened(run: RunConfig, world: Path, part: Part | None = None) -> OnTheFly:
    return open_run(run, world / "study", part or Part())


def from_store(stored: RunConfig, wanted: Wanted) -> EncodedBatch:
    """The batch that training on the store has, by its own ways."""
    if wanted.heldout:
        dataset = StoredHeldout(stored)
        numbers = dataset.numbers[wanted.places]
        kept: list[EncodedBatch] = []
        view = dataset.view
        dataset.view = _Spy(view, kept)  # type: ignore[assignment]
        dataset.batch(wanted.places)
        assert np.array_equal(kept[0].numbers, numbers)
        return kept[0]
    turn = Turns(stored).after(int(wanted.places[0]))
    dataset = StoredTraining(turn.run, turn.order)
    kept = []
    dataset.parts[0].view = _Spy(dataset.parts[0].view, kept)  # type: ignore[assignment]
    dataset.batch_at(wanted.places - turn.first + turn.place * turn.run.training.batch, wanted.places)
    return kept[0]


class _Spy:
    """Keeps the batches that a view of a store gives."""

    def __init__(self, view: object, kept: list[EncodedBatch]) -> None:
        self._view, self._kept = view, kept

    def batch(self, *args: object) -> EncodedBatch:
        self._kept.append(self._view.batch(*args))  # type: ignore[attr-defined]
        return self._kept[-1]


def assert_same(one: EncodedBatch, other: EncodedBatch) -> None:
    """Bit by bit."""
    ours, theirs = one.arrays(), other.arrays()
    assert ours.keys() == theirs.keys() and one.bucket == other.bucket
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype and np.array_equal(values, theirs[name]), name
