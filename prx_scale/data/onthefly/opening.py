"""What a run encodes while it trains, put together: its survey, its schedule, and the processes that encode."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prx_scale.choices import weights_of
from prx_scale.config import RunConfig
from prx_scale.data.captions import caption_mix
from prx_scale.data.encoding.fromrun import Planned, planned_images, planned_text
from prx_scale.data.encoding.job import Setup, cores
from prx_scale.data.encoding.plan import Plan
from prx_scale.data.encoding.reading import Numbered
from prx_scale.data.heldout import training_buckets, validated_numbers
from prx_scale.data.onthefly.making import Drawn
from prx_scale.data.onthefly.producing import Production
from prx_scale.data.onthefly.schedule import Buckets, Material, Numbers, Schedule
from prx_scale.data.onthefly.stream import OnTheFly
from prx_scale.data.onthefly.survey import Crew, Survey, kept_survey
from prx_scale.data.skips import SkipLog
from prx_scale.data.store import Store
from prx_scale.data.trained import with_weights
from prx_scale.locks import NoLongerWanted
from prx_scale.stages import alone, sources_of
from prx_scale.stagetables import Source
from prx_scale.stores import content_of

logger = logging.getLogger(__name__)

SURVEYS = "surveys"
_SECONDS_BETWEEN_LINES = 10.0
_WORTH_A_PROCESS = 10_000
"""Samples whose heads are read in the time that a process takes to start."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Of the processes that train, each has images of its own."""

    rank: int = 0
    world: int = 1


def open_run(run: RunConfig, study: Path, part: Part, skips: Path | None = None) -> OnTheFly:
    """The micro-batches of a process that trains.

    Args:
        run: with all filled in.
        study: folder of the study, where the survey is kept.
        part: of the process.
        skips: file that samples that cannot be used are listed in.

    Raises:
        InputError: data or encoders are not there, or there are too few samples.
    """
    encoding = run.encoding
    if run.data.dataset == "images":
        found = planned_sources(run)
        plan, sources, store = found[0].plan, tuple(each.source for each in found), None
        schedule = schedule_of_images(run, found, [surveyed(run, each, study) for each in found], part)
    else:
        opened = Store.open(run.data.path, check_files=False)
        plan, _ = planned_text(run, opened.recipe, content_of(opened.index), f"{run.id}:")
        sources, store = (), opened.folder
        schedule = schedule_of_store(run, opened, part)
    production = Production(
        setup=_setup(run, plan),
        schedule=schedule,
        drawn=Drawn(mix=caption_mix(run.captions), seed=run.data.seed),
        sources=sources,
        store=store,
    )
    log = SkipLog(max_skipped=encoding.max_skipped, path=skips, source=run.data.path)
    return OnTheFly(production, processes=encoding.processes, ahead=encoding.ahead, skips=log)


def planned_sources(run: RunConfig) -> list[Planned]:
    """All that a run encodes, the images of `[data]` first.

    Args:
        run: on images.

    Raises:
        InputError: names the table and key of what is not there.
    """
    return [planned_images(alone(run, source), f"{run.id}:") for source, _ in sources_of(run).values()]


def surveyed(run: RunConfig, planned: Planned, study: Path, unwanted: Callable[[], bool] = lambda: False) -> Survey:
    """Sizes and captions of images: looked up once for a study, by whichever process is the first.

    Args:
        run: on images.
        planned: images of it.
        study: folder of the study.
        unwanted: whether to stop.

    Raises:
        NoLongerWanted: it was asked to stop.
    """
    return kept_survey(
        study / SURVEYS / f"{planned.looked_up}.npz",
        Numbered(planned.source),
        planned.plan.preparer,
        decode=run.encoding.survey == "images",
        crew=_crew(run, planned.plan.draft.data.samples),
        step=_Progress(planned.plan.draft.data.spec, planned.plan.draft.data.samples, unwanted),
        unwanted=unwanted,
    )


def _crew(run: RunConfig, samples: int) -> Crew:
    """All cores, for whoever trains waits for it; processes only where there is enough for each to do."""
    threads = run.encoding.threads or cores()
    return Crew(workers=max(1, min(threads, samples // _WORTH_A_PROCESS)), threads=threads)


class _Progress:
    """Says now and then how far a survey is."""

    def __init__(self, path: str, samples: int, unwanted: Callable[[], bool]) -> None:
        self._path, self._samples, self._unwanted = path, samples, unwanted
        self._done, self._said = 0, 0.0

    def __call__(self, done: int) -> None:
        if self._unwanted():
            raise NoLongerWanted(f"{self._path}: asked to stop while sizes and captions were looked up")
        self._done += done
        if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES or self._done == self._samples:
            self._said = time.monotonic()
            logger.warning(f"{self._path}: sizes and captions of {self._done:,} of {self._samples:,} images looked up")


def schedule_of_images(run: RunConfig, planned: Sequence[Planned], looked: Sequence[Survey], part: Part) -> Schedule:
    """Which images each micro-batch has.

    Args:
        run: on images.
        planned: its images, by source.
        looked: what was found out of each.
        part: of the process.

    Raises:
        InputError: too few are held out.
    """
    materials: list[Material] = []
    for (source, sizes), images, survey in zip(sources_of(run).values(), planned, looked, strict=True):
        own = alone(run, source)
        assigned = {size: _captioned(own, images, survey, size) for size in sizes}
        materials.append(_material(own, source, assigned, images.plan.draft.blocks(), len(survey.sizes)))
    return _schedule(run, materials, _assigned(planned[0], looked[0], run.data.image_size), part)


def _assigned(planned: Planned, looked: Survey, size: int) -> Buckets:
    draft = planned.plan.draft
    resolution = next(each for each in draft.resolutions if each.image_size == size)
    assigned = looked.assigned(resolution, draft.preprocessing)
    return assigned if planned.filter is None else np.where(planned.filter.keep, assigned, np.int16(-1))


def _captioned(run: RunConfig, planned: Planned, looked: Survey, size: int) -> Buckets:
    assigned = _assigned(planned, looked, size)
    return assigned if run.captions.missing == "empty" else looked.with_captions(assigned, run.captions.kinds)


def schedule_of_store(run: RunConfig, store: Store, part: Part) -> Schedule:
    """Which latents each micro-batch has.

    Args:
        run: on a store, with captions encoded while it trains.
        store: the store.
        part: of the process.

    Raises:
        InputError: too few are held out.
    """

    def captioned(size: int) -> Buckets:
        view = store.at(size)
        return view.assigned if run.captions.missing == "empty" else view.with_captions(run.captions.kinds)

    ((_, sizes),) = sources_of(run).values()
    assigned = store.at(run.data.image_size).assigned
    material = _material(run, None, {size: captioned(size) for size in sizes}, store.blocks(), len(assigned))
    return _schedule(run, [material], assigned, part)


def _material(
    run: RunConfig, source: Source | None, captioned: Mapping[int, Buckets], starts: Numbers, samples: int
) -> Material:
    """What a run that trains on one source alone has of it: neither what is held out nor what a filter removed."""
    weights = weights_of(run.data, samples)
    return Material(
        source=source,
        assigned={
            size: training_buckets(with_weights(buckets, weights), run.data.heldout)
            for size, buckets in captioned.items()
        },
        weights=None if weights is None else np.array(weights),
        starts=starts,
    )


def _schedule(run: RunConfig, materials: Sequence[Material], assigned: Buckets, part: Part) -> Schedule:
    share = run.data.heldout
    return Schedule(
        run=run,
        materials=tuple(materials),
        heldout=validated_numbers(run, assigned),
        heldout_buckets=np.where(training_buckets(assigned, share) < 0, assigned, np.int16(-1)),
        rank=part.rank,
        world=part.world,
    )


def _setup(run: RunConfig, plan: Plan) -> Setup:
    encoding = run.encoding
    device = encoding.device
    if not device and torch.cuda.is_available():
        device = f"cuda:{torch.cuda.current_device()}"
    side_by_side = encoding.processes * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Setup(
        plan=plan,
        precision=encoding.precision,
        cleaning=encoding.cleaning,
        device=device,
        threads=encoding.threads or max(1, cores() // side_by_side),
    )
