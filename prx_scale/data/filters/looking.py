"""Reading and decoding samples for scorers, in this process or in several beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prx_scale.data.decode import DEFAULT_LIMITS, OpenedImage, Pixels, open_image
from prx_scale.data.filters.base import Preparer, Seen
from prx_scale.data.headers import kind_of
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.sources.base import Item, Source
from prx_scale.data.workers import WorkerDied, in_order
from prx_scale.errors import InputError

_REDUCED = (8, 4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Some samples of a shard, and the scorers that want them."""

    shard: int
    start: int
    stop: int
    scorers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A sample that was looked at."""

    key: str
    skipped: Skipped | None = None
    prepared: tuple[Any, ...] = ()
    """For each scorer of the task; none if the sample is skipped."""


@dataclass(frozen=True, kw_only=True)
class Looker:
    """Reads samples and prepares them."""

    source: Source
    preparers: Mapping[str, Preparer]
    """By scorer."""

    def look(self, task: Task) -> list[Row]:
        """One row a sample.

        Args:
            task: which ones, and for whom.
        """
        preparers = [self.preparers[name] for name in task.scorers]
        return [_row(item, preparers) for item in self.source.samples(task.shard, task.start, task.stop)]


def looked(looker: Looker, tasks: Iterable[Task], workers: int) -> Generator[tuple[Task, list[Row]]]:
    """Tasks in their order, each with its rows.

    Args:
        looker: reads them.
        tasks: what to read; taken a few at a time.
        workers: processes beside this one; below 2 it is done here.

    Raises:
        InputError: a process died.
    """
    try:
        yield from in_order(looker.look, tasks, workers)
    except WorkerDied as error:
        task: Task = error.task  # pyright: ignore[reportAssignmentType]
        raise InputError(
            f"{looker.source.shards[task.shard]}: a process that decodes images died at samples {task.start} to "
            f"{task.stop - 1} or soon after, perhaps for want of memory: what is scored is kept; go on with the same "
            "command and fewer --workers"
        ) from error


def _row(item: Item, preparers: list[Preparer]) -> Row:
    if isinstance(item, Skipped):
        return Row(key=item.key, skipped=item)
    image = _Decoded.of(item)
    if isinstance(image, Skipped):
        return Row(key=item.key, skipped=image)
    prepared: list[Any] = []
    for prepare in preparers:
        pixels = image.at(prepare.side) if prepare.side else None
        if isinstance(pixels, Skipped):
            return Row(key=item.key, skipped=pixels)
        prepared.append(prepare(Seen(sample=item, size=image.size, pixels=pixels)))
    return Row(key=item.key, prepared=tuple(prepared))


@dataclass(kw_only=True)
class _Decoded:
    """An image at the sizes that scorers ask for.

    What one scorer gets does not depend on which others there are: a JPEG is decoded anew where they need it at
    different fractions.
    """

    sample: RawSample
    size: tuple[int, int]
    _unused: OpenedImage | None
    _found: dict[int, Pixels | Skipped] = field(default_factory=dict[int, Pixels | Skipped])

    @classmethod
    def of(cls, sample: RawSample) -> _Decoded | Skipped:
        image = open_image(sample, DEFAULT_LIMITS)
        return image if isinstance(image, Skipped) else cls(sample=sample, size=image.size, _unused=image)

    def at(self, side: int) -> Pixels | Skipped:
        jpeg = kind_of(self.sample.image) == "JPEG"
        scale = next((each for each in _REDUCED if jpeg and each <= min(self.size) // side), 1)
        if scale not in self._found:
            image = self._unused or open_image(self.sample, DEFAULT_LIMITS)
            self._unused = None
            self._found[scale] = image if isinstance(image, Skipped) else image.pixels((side, side))
        return self._found[scale]
