"""The stages of a run, resolved: which stage a step belongs to, with what settings, and whose data its batch is of.

Steps are counted from 0 over the whole run, so the stage of step s is that of the step that follows s done ones.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.shapes.hashing import uniforms
from prx_scale.diffusion.draws import Purpose
from prx_scale.errors import InputError
from prx_scale.runtables import Data
from prx_scale.stagetables import Source, Stage

Numbers = NDArray[np.int64]
UNSTAGED = "all"
"""The name of the one stage of a run that has no [[stage]]."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """A stage with everything filled in."""

    number: int
    name: str
    first: int
    """Its first step."""
    steps: int
    image_size: int
    batch: int
    lr: float
    warmup: int
    shift: float
    """alpha of its own image size; a replayed batch has that of its stage."""
    data: tuple[Source, ...]
    """Those with weight; none is what `[data]` names."""
    replay: int | None
    """Number of the stage that is replayed."""
    replay_share: float

    @property
    def last(self) -> int:
        """The step after its last one."""
        return self.first + self.steps

    @property
    def order(self) -> int:
        """Names the order of its own data."""
        return 2 * self.number

    @property
    def replay_order(self) -> int:
        """Names the order of what it replays: another one than the replayed stage had."""
        return 2 * self.number + 1


def resolve(run: RunConfig) -> tuple[StageSettings, ...]:
    """The stages of a run; a run without any has one.

    Args:
        run: with the steps of all stages.
    """
    stages = run.stages or (Stage(name=UNSTAGED, steps=run.training.steps),)
    numbers = {stage.name: number for number, stage in enumerate(stages)}
    firsts = np.cumsum([0, *(stage.steps for stage in stages)]).tolist()
    return tuple(
        StageSettings(
            number=number,
            name=stage.name,
            first=firsts[number],
            steps=stage.steps,
            image_size=stage.image_size or run.data.image_size,
            batch=stage.batch or run.training.batch,
            lr=stage.lr or run.training.lr * stage.lr_factor,
            warmup=stage.warmup if number else run.training.warmup,
            shift=stage.shift or replace(run, data=_sized(run, stage)).shift,
            data=stage.sources,
            replay=numbers[stage.replay] if stage.replay else None,
            replay_share=stage.replay_share,
        )
        for number, stage in enumerate(stages)
    )


def _sized(run: RunConfig, stage: Stage) -> Data:
    return replace(run.data, image_size=stage.image_size or run.data.image_size)


def stage_at(stages: Sequence[StageSettings], step: int) -> StageSettings:
    """The stage of a step.

    Args:
        stages: of the run.
        step: from 0; steps past the end belong to the last stage.
    """
    return stages[bisect.bisect_right([stage.first for stage in stages], step) - 1]


def stage_settings(run: RunConfig, step: int) -> StageSettings:
    """What a run does at a step.

    Args:
        run: with the steps of all stages.
        step: from 0.
    """
    return stage_at(resolve(run), step)


def samples_before(stages: Sequence[StageSettings], step: int) -> int:
    """Samples that all processes have seen before a step.

    Args:
        stages: of the run.
        step: from 0, at most the number of steps.
    """
    return sum(stage.batch * (min(step, stage.last) - stage.first) for stage in stages if stage.first < step)


def step_after(stages: Sequence[StageSettings], samples: int) -> int:
    """The step that comes after so many samples: the inverse of `samples_before`.

    Args:
        stages: of the run.
        samples: seen by all processes; in the middle of a step, that step.
    """
    for stage in stages[:-1]:
        if samples < stage.batch * stage.steps:
            break
        samples -= stage.batch * stage.steps
    else:
        stage = stages[-1]
    return stage.first + samples // stage.batch


def rate_factor(stages: Sequence[StageSettings], lr: float, step: int) -> float:
    """The learning rate of a step as a multiple of `[training] lr`, by stage and warm-up.

    Args:
        stages: of the run.
        lr: `[training] lr`, above 0.
        step: from 0.

    Returns:
        The stage's rate over lr, times (steps into the stage) / warmup while that is below 1.
    """
    stage = stage_at(stages, step)
    return stage.lr / lr * min(1.0, (step - stage.first + 1) / max(stage.warmup, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class StepSources:
    """Whose batches the steps of a stage have."""

    replayed: NDArray[np.bool_]
    """(steps,) whether it is a batch of the replayed stage's data."""
    places: Numbers
    """(steps,) number of the batch among those of its kind: what a batch plan is asked for."""


def step_sources(stage: StageSettings, seed: int) -> StepSources:
    """Whose batches the steps of a stage have; named by step, so alike on all ranks and after any restart.

    Args:
        stage: the stage.
        seed: of the data, below 2^55.
    """
    steps = np.arange(stage.first, stage.last)
    drawn = uniforms((seed << 8) | Purpose.REPLAY, steps, 1)[:, 0] < stage.replay_share
    replayed = np.cumsum(drawn)
    return StepSources(replayed=drawn, places=np.where(drawn, replayed - 1, steps - stage.first - replayed))


def as_run(run: RunConfig, stage: StageSettings) -> RunConfig:
    """The run that a stage would be by itself: for its tokens, FLOPs and layout.

    Args:
        run: of the stage.
        stage: one of it.
    """
    training = replace(run.training, steps=stage.steps, batch=stage.batch, lr=stage.lr, warmup=stage.warmup)
    return replace(run, stages=(), data=replace(run.data, image_size=stage.image_size), training=training)


def as_source(data: Data, source: Source) -> Data:
    """The [data] table of a run that trains on one source alone.

    Args:
        data: of the run.
        source: with its content and sizes.
    """
    return replace(
        data,
        path=source.path,
        content=source.content,
        sizes=source.sizes,
        filter=source.filter,
        filter_hash=source.filter_hash,
    )


def stores_of(run: RunConfig) -> tuple[Data, ...]:
    """The [data] tables of all stores of a run, each once, that of `[data]` first.

    Args:
        run: with its stores filled in.
    """
    found = {run.data.content: run.data}
    for source in (each for stage in run.stages for each in stage.sources):
        found.setdefault(source.content, as_source(run.data, source))
    return tuple(found.values())


Name = tuple[str, str, str]
"""Of a source: where it is, its content, and what a filter keeps of it."""


def name_of(data: Data | Source) -> Name:
    """What tells a source from others: other images may have shards of the same names, and so the same content.

    Args:
        data: filled in.
    """
    return data.path, data.content, data.filter_hash


def sources_of(run: RunConfig) -> dict[Name, tuple[Source | None, list[int]]]:
    """All sources of a run, that of `[data]` first, and the image sizes that each is trained on at.

    Args:
        run: with its data filled in.
    """
    found: dict[Name, tuple[Source | None, list[int]]] = {name_of(run.data): (None, [])}
    for stage in resolve(run):
        for source in stage.data or (None,):
            name = name_of(run.data if source is None else source)
            sizes = found.setdefault(name, (source, []))[1]
            if stage.image_size not in sizes:
                sizes.append(stage.image_size)
    return found


def alone(run: RunConfig, source: Source | None) -> RunConfig:
    """The run that trains on one source alone, or on `[data]`.

    Args:
        run: with its data filled in.
        source: of a stage; None is `[data]`.
    """
    if source is None:
        return run
    # [encoding] filter is of the images of [data].
    encoding = replace(run.encoding, filter="")
    return replace(run, data=as_source(run.data, source), encoding=encoding)


def check_stages(run: RunConfig, where: str) -> None:
    """Refuse stages that do not fit the rest of the run.

    Args:
        run: with the steps of all stages.
        where: file and variant, for errors.

    Raises:
        InputError: names the stage and the key.
    """
    if not run.stages:
        return
    stages = resolve(run)
    if stages[-1].last != run.training.steps:
        raise InputError(
            f"{where} [training] steps: {run.training.steps}, but the stages have {stages[-1].last}; leave the key out"
        )
    for stage in stages:
        _check_stage(run, stage, f"{where} [[stage]] '{stage.name}'")


def _check_stage(run: RunConfig, stage: StageSettings, where: str) -> None:
    pixels = run.data.downsampling * run.model.patch
    table = (run.model.position_grid or run.grid_side) * pixels
    if stage.image_size % pixels:
        raise InputError(
            f"{where} image_size: {stage.image_size} is not a multiple of the {pixels} pixels of a token; "
            f"{max(stage.image_size // pixels, 1) * pixels} is"
        )
    if stage.image_size > table:
        raise InputError(
            f"{where} image_size: {stage.image_size} is more than the {table} pixels that the positions cover; "
            f"set [model] position_grid to {stage.image_size // pixels} or more"
        )
    if stage.warmup > stage.steps:
        raise InputError(f"{where} warmup: {stage.warmup} is more than the {stage.steps} steps of the stage")
    if run.parallel.micro_batch and stage.batch % run.parallel.micro_batch:
        raise InputError(
            f"{where} batch: {stage.batch} is not a multiple of [parallel] micro_batch {run.parallel.micro_batch}"
        )
