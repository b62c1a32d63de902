"""A launch of `prx-scale encode`: which shards of which store, made by how many processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.encoding.measuring import Measured, measure
from prx_scale.data.encoding.oneshard import Work, encode_shard
from prx_scale.data.encoding.parts import Part
from prx_scale.data.encoding.plan import Plan
from prx_scale.data.encoding.reading import Numbered
from prx_scale.data.filters.manifest import Manifest
from prx_scale.data.sources.base import Source
from prx_scale.data.store.finishing import begin
from prx_scale.data.store.records import ShardRecord
from prx_scale.data.store.writing import host
from prx_scale.data.workers import cores
from prx_scale.errors import InputError
from prx_scale.models.encoders.text.cleaning import Cleaning

if TYPE_CHECKING:
    from prx_scale.data.encoding.encoders import Encoders


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a process that encodes needs to know; goes to it in a pickle."""

    plan: Plan
    precision: str = "bfloat16"
    """That encoders compute in."""
    cleaning: Cleaning = "none"
    """Of captions."""
    device: str = ""
    """cpu, cuda, cuda:1; empty is a GPU where there is one, for each process the next."""
    threads: int = 0
    """Of each process; 0 shares out the cores."""


@dataclass(frozen=True, kw_only=True)
class Job(Setup):
    """What is to be done to a store."""

    source: Source
    out: Path
    """Its folder."""
    filter: Path | None = None
    """Folder of a filter's result."""
    part: Part = field(default_factory=Part)


def threads_of(setup: Setup, processes: int) -> int:
    """That each process decodes with and, on a CPU, encodes.

    Args:
        setup: of the process.
        processes: how many share the machine.
    """
    return setup.threads or max(1, cores() // processes)


def encoders_of(setup: Setup, process: int, processes: int, *, images: bool = True) -> Encoders:
    """Load the encoders of a process.

    Args:
        setup: of the process.
        process: its number.
        processes: how many share the machine.
        images: the image encoder too.

    Raises:
        InputError: weights that are not there, or not those of the plan.
    """
    from prx_scale.data.encoding.encoders import Weights, load_encoders

    plan = setup.plan
    weights = Weights(
        image=plan.image_source, text=plan.text_sources, precision=setup.precision, cleaning=setup.cleaning
    )
    device = _device(setup.device, process, threads_of(setup, processes))
    return load_encoders(plan.draft, weights, device, images=images)


def work_of(setup: Setup, source: Source, process: int = 0, processes: int = 1) -> Work:
    """Load the encoders, and take what else a process encodes with.

    Args:
        setup: of the process.
        source: of the samples.
        process: its number.
        processes: how many share the machine.

    Raises:
        InputError: weights that are not there, or not those of the plan.
    """
    encoders = encoders_of(setup, process, processes)
    return Work(
        recipe=encoders.complete(setup.plan.draft),
        data=Numbered(source),
        preparer=setup.plan.preparer,
        encoders=encoders,
        threads=threads_of(setup, processes),
    )


class Encoding:
    """A process at work on a store: encoders are loaded, and shards are made when they are asked for."""

    def __init__(self, job: Job, process: int = 0, processes: int = 1) -> None:
        """Load the encoders.

        Args:
            job: what is to be done.
            process: number of this process.
            processes: how many share the machine.

        Raises:
            InputError: weights that are not there, or not those of the plan.
        """
        self.out = job.out
        self.work = replace(work_of(job, job.source, process, processes), keep=kept(job))

    def begin(self) -> None:
        """Begin the store, or see that what is there was made as this process would make it.

        Raises:
            InputError: it was not.
        """
        begin(self.out, self.work.recipe)

    def measure(self, first: int) -> Measured:
        """Time a few samples.

        Args:
            first: number of the first.
        """
        return measure(self.work, first)

    def make(self, shard: int, step: Callable[[int], None]) -> ShardRecord:
        """Make a shard and write it.

        Args:
            shard: its number.
            step: is told how many more samples are done.

        Raises:
            InputError: it cannot be written, or an encoder gives what cannot be stored.
        """
        made = encode_shard(self.work, shard, step)
        try:
            return made.write(self.out)
        except OSError as error:
            raise InputError(f"{self.out}: shard {shard} cannot be written ({error.strerror})") from error


def kept(job: Job) -> NDArray[np.bool_] | None:
    """(N,) which samples a filter kept; None where there is no filter.

    Args:
        job: names it.

    Raises:
        InputError: it was made of other data.
    """
    if job.filter is None:
        return None
    manifest = Manifest.open(job.filter)
    manifest.check(job.source)
    return manifest.keep


def remove_drafts(folder: Path) -> None:
    """Delete what processes of this machine that are gone did not finish.

    Args:
        folder: of the store.
    """
    for draft in _drafts(folder):
        *_, machine, process, _ = draft.name.rsplit(".", 3)
        if machine == host() and process.isdecimal() and not _lives(int(process)):
            draft.unlink(missing_ok=True)


def _drafts(folder: Path) -> Iterable[Path]:
    yield from folder.glob(".*.part")
    yield from (folder / "shards").glob("*/.*.part")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _device(asked: str, process: int, threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked:
        number = int(asked.partition(":")[2] or 0)
        if asked.startswith("cuda") and number >= count:
            raise InputError(f"device {asked}: this machine has {count} GPUs that torch can use; cpu is always there")
        return asked
    return f"cuda:{process % count}" if count else "cpu"
