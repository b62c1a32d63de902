"""What a run encodes while it trains, put together: its survey, its schedule, and the processes that encode."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prx_scale.choices import weights_of
from prx_scale.config import RunConfig
from prx_scale.data.captions import caption_mix
from prx_scale.data.encoding.fromrun import Planned, planned_images, planned_text
from prx_scale.data.encoding.job import Setup
from prx_scale.data.encoding.plan import Plan
from prx_scale.data.heldout import training_buckets, validated_numbers
from prx_scale.data.onthefly.making import Drawn
from prx_scale.data.onthefly.producing import Production
from prx_scale.data.onthefly.schedule import Buckets, Material, Numbers, Schedule
from prx_scale.data.onthefly.stream import OnTheFly
from prx_scale.data.onthefly.survey import Survey
from prx_scale.data.onthefly.surveying import assigned_buckets, surveyed, trained_images
from prx_scale.data.skips import SkipLog
from prx_scale.data.store import Store
from prx_scale.data.trained import trained_buckets
from prx_scale.data.workers import cores
from prx_scale.stages import alone, sources_of
from prx_scale.stagetables import Source
from prx_scale.stores import content_of

Weights = NDArray[np.float32]


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
        weights = weights_of(own.data, len(survey.sizes))
        assigned = {size: trained_images(own, images, survey, size, weights) for size in sizes}
        materials.append(_material(source, assigned, weights, images.plan.draft.blocks()))
    return _schedule(run, materials, assigned_buckets(planned[0], looked[0], run.data.image_size), part)


def schedule_of_store(run: RunConfig, store: Store, part: Part) -> Schedule:
    """Which latents each micro-batch has.

    Args:
        run: on a store, with captions encoded while it trains.
        store: the store.
        part: of the process.

    Raises:
        InputError: too few are held out.
    """
    ((_, sizes),) = sources_of(run).values()
    weights = weights_of(run.data, len(store))
    trained = {size: trained_buckets(store, size, run.captions, run.data.heldout, weights) for size in sizes}
    material = _material(None, trained, weights, store.blocks())
    return _schedule(run, [material], store.at(run.data.image_size).assigned, part)


def _material(
    source: Source | None, assigned: Mapping[int, Buckets], weights: Weights | None, starts: Numbers
) -> Material:
    return Material(
        source=source, assigned=assigned, weights=None if weights is None else np.array(weights), starts=starts
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
