"""Size and captions of every sample, looked up once, so that batches of one bucket can be laid out beforehand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.buckets import assign, reaches
from prx_scale.data.decode import open_image
from prx_scale.data.encoding.preparing import Preparer
from prx_scale.data.encoding.reading import Numbered, prepared
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.sources.base import Source
from prx_scale.data.store.recipe import Preprocessing, Resolution
from prx_scale.data.store.writing import write_bytes
from prx_scale.data.workers import WorkerDied, in_order
from prx_scale.errors import InputError
from prx_scale.locks import in_turn

_AT_ONCE = 256
_ENOUGH = (32, 32)
"""Pixels that an image is decoded to, whatever sizes runs have."""

_Seen = tuple[tuple[int, int], Mapping[str, str]]
"""(Height, width) and captions of a sample that can be used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What is known of N samples before they are decoded."""

    fingerprint: str
    """Of the data."""
    sizes: NDArray[np.int32]
    """(N, 2) height and width of the upright image, 0 where there is none."""
    kinds: NDArray[np.uint32]
    """(N,) which kinds of captions there are, a bit for each."""
    names: tuple[str, ...]
    """Of the kinds."""
    decoded: bool
    """Every image was decoded, not only its head read."""

    def assigned(self, resolution: Resolution, preprocessing: Preprocessing) -> NDArray[np.int16]:
        """(N,) bucket of each sample, -1 where it cannot be used, is too small or has no caption.

        Args:
            resolution: with the buckets.
            preprocessing: says what is too small.
        """
        height, width = self.sizes[:, 0], self.sizes[:, 1]
        there = (height > 0) & (width > 0)
        there &= reaches(height, width, resolution.image_size, preprocessing.max_upscaling)
        found = np.full(len(self.sizes), -1, dtype=np.int16)
        found[there] = assign(resolution.buckets, height[there], width[there])
        return found

    def with_captions(self, assigned: NDArray[np.int16], kinds: tuple[str, ...]) -> NDArray[np.int16]:
        """The same, and -1 too where a sample has a caption of none of some kinds.

        Args:
            assigned: (N,)
            kinds: of captions.
        """
        wanted = np.uint32(sum(1 << self.names.index(kind) for kind in kinds))
        return np.where(self.kinds & wanted, assigned, np.int16(-1))

    def save(self, file: Path) -> None:
        """Write it.

        Args:
            file: .npz.
        """
        buffer = io.BytesIO()
        np.savez(
            buffer,
            fingerprint=np.array(self.fingerprint),
            sizes=self.sizes,
            kinds=self.kinds,
            names=np.array(self.names, dtype=np.str_),
            decoded=np.array(self.decoded),
        )
        write_bytes(file, buffer.getvalue())

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read one.

        Args:
            file: .npz.

        Raises:
            InputError: it is none.
        """
        try:
            with np.load(file, allow_pickle=False) as found:
                return cls(
                    fingerprint=str(found["fingerprint"]),
                    sizes=found["sizes"],
                    kinds=found["kinds"],
                    names=tuple(str(name) for name in found["names"]),
                    decoded=bool(found["decoded"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{file}: no survey of samples ({error}); delete it, and it is made again") from error


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Who looks at samples."""

    workers: int = 1
    """Processes beside this one; below 2 it looks itself."""
    threads: int = 1
    """That decode, in all."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Which samples are looked at, by whom and how."""

    data: Numbered
    preparer: Preparer
    """What makes them ready."""
    decode: bool = False
    """Images too, which finds those that are damaged behind their head."""
    crew: Crew = Crew()
    step: Callable[[int], None] = lambda done: None
    """Is told how many more are done."""


def survey(lookup: Lookup) -> Survey:
    """Look at every sample.

    Args:
        lookup: which, and how.

    Raises:
        InputError: a process died.
    """
    data, preparer, decode, crew = lookup.data, lookup.preparer, lookup.decode, lookup.crew
    sizes = np.zeros((len(data), 2), dtype=np.int32)
    kinds = np.zeros(len(data), dtype=np.uint32)
    look = _Look(source=data.source, preparer=preparer, threads=max(1, crew.threads // crew.workers) if decode else 0)
    tasks = [(first, min(first + _AT_ONCE, len(data))) for first in range(0, len(data), _AT_ONCE)]
    try:
        for (first, stop), found in in_order(look, tasks, crew.workers):
            sizes[first:stop], kinds[first:stop] = found
            lookup.step(stop - first)
    except WorkerDied as error:
        lookup.step(0)  # which ends this where a signal that went to all has ended the process
        first, stop = error.task  # pyright: ignore[reportGeneralTypeIssues]
        raise InputError(
            f"{data.source.spec}: a process that looks up sizes and captions died at samples {first} to {stop - 1} or "
            "soon after, perhaps for want of memory: start again, with fewer [encoding] threads"
        ) from error
    return Survey(fingerprint=data.source.fingerprint(), sizes=sizes, kinds=kinds, names=preparer.kinds, decoded=decode)


def kept_survey(
    file: Path,
    lookup: Lookup,
    *,
    unwanted: Callable[[], bool] = lambda: False,
    cached: Callable[[], Path | None] = lambda: None,
) -> Survey:
    """The survey that a file holds; where it holds none of these data, one out of the cache or made now is put there.

    Of several processes that ask at once, one does it.

    Args:
        file: .npz.
        lookup: which samples, and how.
        unwanted: whether to stop waiting for another process.
        cached: names the file that `cached_survey` writes; asked only where it is needed.

    Raises:
        NoLongerWanted: while waiting.
        InputError: a process died, or the file is damaged.
    """
    if found := _kept(file, lookup):
        return found
    with in_turn(file.with_suffix(".lock"), unwanted):
        if found := _kept(file, lookup):
            return found
        before = cached()
        made = before and _cached(before, lookup)
        made = made or survey(lookup)
        made.save(file)
        return made


def cached_survey(file: Path, lookup: Lookup, unwanted: Callable[[], bool]) -> Survey:
    """The same, out of a file of a cache: one that is damaged, or cannot be written, costs time and nothing else.

    Args:
        file: .npz.
        lookup: which samples, and how.
        unwanted: whether to stop waiting for another process.

    Raises:
        NoLongerWanted: while waiting.
        InputError: a process died.
    """
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(in_turn(file.with_suffix(".lock"), unwanted))
        if found := _cached(file, lookup):
            return found
        made = survey(lookup)
        with suppress(OSError):
            made.save(file)
        return made


def _cached(file: Path, lookup: Lookup) -> Survey | None:
    try:
        return _kept(file, lookup)
    except (InputError, OSError):
        return None


def _kept(file: Path, lookup: Lookup) -> Survey | None:
    if not file.exists():
        return None
    found = Survey.load(file)
    same = found.fingerprint == lookup.data.source.fingerprint() and set(lookup.preparer.kinds) <= set(found.names)
    return found if same and (found.decoded or not lookup.decode) else None


@dataclass(frozen=True, kw_only=True)
class _Look:
    """Height, width and kinds of captions of samples first to stop."""

    source: Source
    preparer: Preparer
    threads: int
    """That decode images; 0 reads heads."""

    @cached_property
    def data(self) -> Numbered:
        """Numbered in the process that looks."""
        return Numbered(self.source)

    def __call__(self, task: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
        first, stop = task
        numbers = np.arange(first, stop, dtype=np.int64)
        sizes, kinds = np.zeros((len(numbers), 2), dtype=np.int32), np.zeros(len(numbers), dtype=np.uint32)
        names = self.preparer.kinds
        for number, seen in self._items(numbers):
            if not isinstance(seen, Skipped):
                size, captions = seen
                sizes[number - first] = size
                kinds[number - first] = sum(1 << place for place, name in enumerate(names) if name in captions)
        return sizes, kinds

    def _items(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, _Seen | Skipped]]:
        if self.threads:
            yield from prepared(self.data, numbers, self._seen, self.threads)
            return
        for number, item in zip(numbers.tolist(), self.data.fetch(numbers), strict=True):
            yield number, item if isinstance(item, Skipped) else self._seen(number, item)

    def _seen(self, number: int, sample: RawSample) -> _Seen | Skipped:
        image = open_image(sample, self.preparer.limits)
        if isinstance(image, Skipped):
            return image
        if self.threads and isinstance(pixels := image.pixels(at_least=_ENOUGH), Skipped):
            return pixels
        return image.size, self.preparer.captions(number, sample)
