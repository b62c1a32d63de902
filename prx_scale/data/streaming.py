"""Endless batches out of a source, on any number of processes, resumable by one number.

What a batch holds is a function of its first position alone (:mod:`order`): workers keep nothing, so neither their
number nor a restart changes anything. With a batch of b on each of R processes, process r takes positions
`seen + r`, `seen + r + R`, ... of the R b that follow those seen. torchdata's StatefulDataLoader reads them ahead; its
own state stays unused, as it would bind a checkpoint to the number of processes and workers.

A damaged sample does not shift those after it. In its place comes another of the same epoch, drawn by the position's
number, so every sample that is whole is seen once an epoch, and a few of them once more, as stand-ins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from prx_scale.data.lanes import Integers, LaneOrder
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.skips import SkipLog
from prx_scale.data.sources.base import Source
from prx_scale.errors import InputError

T = TypeVar("T")
B = TypeVar("B")

_STAND_INS = 64

# torchdata 0.11 calls what torch 2.13 calls deprecated.
warnings.filterwarnings("ignore", message="'set_vital' is deprecated", category=UserWarning)


@dataclass(frozen=True, kw_only=True)
class Slot(Generic[T]):
    """One sample of a batch."""

    position: int
    """Its number through all epochs: what names its noise, wherever and whenever it is trained on."""
    value: T
    """What became of it."""


Prepare = Callable[[RawSample], T | Skipped]
"""Makes of a sample what goes into a batch; called in workers."""
Collate = Callable[[Sequence[Slot[T]]], B]
"""Makes a batch; called in workers."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of each global batch a process takes."""

    batch: int
    """b, samples a process."""
    rank: int = 0
    world: int = 1

    @property
    def all(self) -> int:
        """Samples of a batch over all processes."""
        return self.batch * self.world

    def positions(self, seen: int) -> Integers:
        """(b,) positions of this process in the batch after those seen."""
        return seen + self.rank + self.world * np.arange(self.batch, dtype=np.int64)


class StreamLoader(Generic[T, B]):
    """Endless batches of one process.

    Args:
        source: what is read.
        order: in which order.
        share: which part of it.
        prepare: makes of a sample what goes into a batch, or says why it cannot.
        collate: makes a batch of those.
        workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker is ahead.
        skips: counts what is left out, and ends the work when it is too much.
    """

    def __init__(
        self,
        source: Source,
        order: LaneOrder,
        share: Share,
        *,
        prepare: Prepare[T],
        collate: Collate[T, B],
        workers: int = 0,
        prefetch: int = 2,
        skips: SkipLog | None = None,
    ) -> None:
        if not order.total:
            raise InputError(f"{source.spec}: holds no samples")
        self.order, self.share, self._source = order, share, source
        self._data = f"{source.fingerprint()}-{order.fingerprint()}"
        self._batches = _Batches(source, order, share, prepare, collate)
        self._options: dict[str, Any] = {"num_workers": workers}
        if workers:
            self._options["prefetch_factor"] = prefetch
        self._skips = skips or SkipLog(source=source.spec)
        self._seen, self._restarts = 0, 0

    @property
    def seen(self) -> int:
        """Positions that all processes together are past."""
        return self._seen

    def __iter__(self) -> Iterator[B]:
        """Batches from where the loader stands; `load_state_dict` also moves an iterator that is under way.

        Raises:
            InputError: too many samples are damaged.
        """
        while True:
            restarts, results = self._restarts, self._results()
            try:
                for result in results:
                    self._seen += self.share.all
                    yield self._checked(result)
                    if self._restarts != restarts:
                        break
            finally:
                # Ends the workers now; left to an exception's traceback, they would be waited for.
                results.close()

    def state_dict(self) -> dict[str, Any]:
        """One number, the same on all processes, and what it belongs to."""
        return {"seen": self._seen, "data": self._data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped, on any number of processes and workers.

        Raises:
            InputError: the checkpoint belongs to other data or another order.
        """
        if state_dict["data"] != self._data:
            raise InputError(
                f"{self._source.spec}: the checkpoint was trained on other data or in another order: shards, their "
                "numbers of samples or the seed differ; resume with what it began with, or start a new run from its "
                "weights"
            )
        self._seen = state_dict["seen"]
        self._restarts += 1

    def _results(self) -> Generator[_Result[B] | InputError]:
        yield from StatefulDataLoader(
            self._batches,
            sampler=_Starts(self._seen, self.share.all),
            batch_size=None,
            collate_fn=_unchanged,
            **self._options,
        )

    def _checked(self, result: _Result[B] | InputError) -> B:
        if isinstance(result, InputError):
            raise result
        self._skips.add(self.share.batch, result.skipped)
        return result.batch


@dataclass(frozen=True, kw_only=True)
class _Result(Generic[B]):
    batch: B
    skipped: list[Skipped]


class _Starts(Sampler[int]):
    """First positions of batches, without end."""

    def __init__(self, first: int, step: int) -> None:
        self._first, self._step = first, step

    def __iter__(self) -> Iterator[int]:
        at = self._first
        while True:
            yield at
            at += self._step


class _Batches(Dataset["_Result[Any] | InputError"], Generic[T, B]):
    """Batches by their first position."""

    def __init__(
        self, source: Source, order: LaneOrder, share: Share, prepare: Prepare[T], collate: Collate[T, B]
    ) -> None:
        self._source, self._order, self._share = source, order, share
        self._prepare, self._collate = prepare, collate

    def __getitem__(self, seen: int) -> _Result[B] | InputError:
        """The batch of this process after those seen; an error is handed over, as workers cannot raise it as it is."""
        positions = self._share.positions(seen)
        skipped: list[Skipped] = []
        slots: list[Slot[T]] = []
        try:
            for position, value in zip(positions.tolist(), self._values(positions), strict=True):
                if isinstance(value, Skipped):
                    skipped.append(value)
                    value = self._stand_in(position)
                slots.append(Slot(position=position, value=value))
        except InputError as error:
            return error
        return _Result(batch=self._collate(slots), skipped=skipped)

    def _values(self, positions: Integers) -> Iterator[T | Skipped]:
        shards, places = self._order.places(positions)
        for item in self._source.fetch(list(zip(shards.tolist(), places.tolist(), strict=True))):
            yield item if isinstance(item, Skipped) else self._prepare(item)

    def _stand_in(self, position: int) -> T:
        last: Skipped | None = None
        for attempt in range(_STAND_INS):
            other = np.array([self._order.stand_in(position, attempt)], dtype=np.int64)
            value = next(self._values(other))
            if not isinstance(value, Skipped):
                return value
            last = value
        raise InputError(
            f"{self._source.spec}: {_STAND_INS} samples drawn at random are all damaged, the last one "
            f"{last and f'{last.key}: {last.reason} ({last.detail})'}"
        )


def _unchanged(value: T) -> T:
    return value
