"""Whose batch each step of a run has, and what all steps up to one come to: samples, tokens, FLOPs. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from prx_scale.config import RunConfig
from prx_scale.models.build import model_shape, position_side
from prx_scale.models.sizes import training_flops
from prx_scale.stages import StageSettings, StepSources, as_run, resolve, samples_before, stage_at, step_after
from prx_scale.stages import step_sources as sources_of
from prx_scale.stagetables import Source


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One step's batch."""

    stage: int
    """Number of the stage that the step belongs to."""
    order: int
    """Names the order of the samples."""
    place: int
    """Of the batch in that order."""
    first: int
    """Samples that all processes have seen before the step."""
    run: RunConfig
    """With image size, batch and shift of the batch."""
    data: tuple[Source, ...]
    """What it is of; none is what `[data]` names."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Steps of a run whose batches are alike."""

    name: str
    """Of their stage, and what is replayed; empty where a run has no stages."""
    run: RunConfig
    """That these steps would be by themselves."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of all steps up to one."""

    samples: int
    tokens: int
    flops: int


class Turns:
    """The batches of a run's steps; those of a run without stages follow one another in one order."""

    def __init__(self, run: RunConfig) -> None:
        """All steps of a run.

        Args:
            run: with the steps of all stages.
        """
        self.run, self.stages = run, resolve(run)
        self._runs = [_as_batches(run, stage, stage) for stage in self.stages]
        self._sources = lru_cache(maxsize=2)(self._drawn)
        flops = [training_flops(model_shape(each)) for each in self._runs]
        self._costs = [(each.tokens_per_sample, cost) for each, cost in zip(self._runs, flops, strict=True)]

    def after(self, seen: int) -> Turn:
        """The batch of a step.

        Args:
            seen: samples of all processes before it, or in the middle of it.
        """
        step = step_after(self.stages, seen)
        stage = stage_at(self.stages, step)
        first = samples_before(self.stages, stage.first) + stage.batch * (step - stage.first)
        own = Turn(
            stage=stage.number,
            order=stage.order,
            place=step - stage.first,
            first=first,
            run=self._runs[stage.number],
            data=stage.data,
        )
        if stage.replay is None or step >= stage.last:
            return own
        sources = self._sources(stage.number)
        place = int(sources.places[step - stage.first])
        if not sources.replayed[step - stage.first]:
            return replace(own, place=place)
        earlier = self.stages[stage.replay]
        replayed = _as_batches(self.run, earlier, stage)
        return replace(own, order=stage.replay_order, place=place, run=replayed, data=earlier.data)

    def totals(self, step: int) -> Totals:
        """What the steps before one come to.

        Args:
            step: from 0, at most the number of steps.
        """
        samples = tokens = flops = 0
        for stage in self.stages:
            done = min(step, stage.last) - stage.first
            if done <= 0:
                break
            replayed = self._replayed(stage, done)
            for number, steps in ((stage.number, done - replayed), (stage.replay or 0, replayed)):
                samples += steps * stage.batch
                tokens += steps * stage.batch * self._costs[number][0]
                flops += steps * stage.batch * self._costs[number][1]
        return Totals(samples=samples, tokens=tokens, flops=flops)

    def parts(self) -> tuple[Part, ...]:
        """The run taken apart into steps whose batches are alike, for what each of them costs."""
        found: list[Part] = []
        for stage in self.stages:
            replayed = self._replayed(stage, stage.steps)
            sources = [(stage.number, stage.steps - replayed), (stage.replay or 0, replayed)]
            for number, steps in sources:
                if steps:
                    again = "" if number == stage.number else f", replaying {self.stages[number].name}"
                    alone = _as_batches(self.run, self.stages[number], stage)
                    model = replace(
                        self.run.model,
                        position_grid=position_side(self.run),
                        position_base=self.run.model.position_base or self.run.grid_side,
                    )
                    alone = replace(alone, model=model, training=replace(alone.training, steps=steps))
                    found.append(Part(name=f"{stage.name}{again}", run=alone))
        return tuple(found) if self.run.stages else (Part(name="", run=self.run),)

    def _replayed(self, stage: StageSettings, done: int) -> int:
        """Of the first steps of a stage, those with a batch of another."""
        if stage.replay is None:
            return 0
        return int(np.count_nonzero(self._sources(stage.number).replayed[:done]))

    def _drawn(self, number: int) -> StepSources:
        return sources_of(self.stages[number], self.run.data.seed)


def _as_batches(run: RunConfig, data: StageSettings, stage: StageSettings) -> RunConfig:
    """The run that has one stage's image size and shift, and another's batch."""
    alone = as_run(run, replace(data, batch=stage.batch))
    return replace(alone, objective=replace(run.objective, shift=data.shift, shift_base=0))
