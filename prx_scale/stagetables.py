"""The [[stage]] tables of a study file: what a run goes through, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

from prx_scale.errors import InputError, nearest
from prx_scale.tables import bounded, chosen, parse


@dataclass(frozen=True, kw_only=True)
class Source:
    """[[stage.data]]: a part of what a stage trains on."""

    path: str = field(metadata={"place": True})
    """Folder of a store, or images; resolved against the study file."""
    weight: float = bounded(1.0, low=0)
    """Share of the samples, in any unit; 0 leaves the source out."""
    filter: str = field(default="", metadata={"place": True})
    """Folder of a filter's result, which says what of the source is trained on, and how often."""
    filter_hash: str = ""
    """Hash of what it keeps, and with what weights; filled in where it is left out."""
    content: str = ""
    """Hash of what is in the store, or of what decides what is made of the images; filled in where it is left out."""
    sizes: tuple[str, ...] = field(default=(), metadata={"place": True})
    """What the model must know of it, in the words of `prx_scale.storesizes`; filled in from it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """[[stage]]: a part of training, with what differs from the rest of the study file."""

    name: str = field(metadata={"place": True})
    steps: int = bounded(0, low=0)
    """Optimiser steps; 0 where `epochs` says how long the stage is."""
    epochs: float = bounded(0.0, low=0)
    """How many times it sees its data, of one source; 0 where `steps` says it."""
    image_size: int = bounded(0, low=0)
    """Pixels along a side of the square; 0 is `[data] image_size`."""
    batch: int = bounded(0, low=0)
    """Images a step; 0 is `[training] batch`."""
    lr: float = bounded(0.0, low=0)
    """Learning rate; 0 is `lr_factor` times `[training] lr`."""
    lr_factor: float = bounded(1.0, low=0)
    warmup: int = bounded(0, low=0)
    """Steps of linear warm-up at its beginning; the first stage has `[training] warmup`."""
    shift: float = bounded(0.0, low=0)
    """alpha; 0 is what `[objective] shift` and `shift_base` give for this image size."""
    replay: str = ""
    """An earlier stage, of whose data and image size some batches are."""
    replay_share: float = bounded(0.0, low=0, high=1)
    """Share of the steps that have such a batch."""
    data: tuple[Source, ...] = ()
    """None is what `[data]` names."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those of `data` with weight."""
        return tuple(source for source in self.data if source.weight)


def parse_stages(content: Any, where: str, *, counted: bool = False) -> tuple[Stage, ...]:
    """Read [[stage]] tables and what concerns them alone.

    Args:
        content: the list of parsed tables.
        where: the file, for errors, as in ``study.toml:``.
        counted: all have their steps, those in epochs too, as in a run.json.

    Raises:
        InputError: an unknown key, a wrong type, a value out of bounds, or keys that contradict each other.
    """
    if not isinstance(content, (list, tuple)):
        raise InputError(f"{where} stages are written [[stage]], with two brackets, each with a name")
    stages: list[Stage] = []
    for number, table in enumerate(cast("Sequence[Any]", content), start=1):
        here = f"{where} [[stage]] number {number}"
        if not isinstance(table, dict):
            raise InputError(f"{here}: must be a table, found {table!r}")
        stage = _parse_stage(cast("dict[str, Any]", table), here)
        _check_length(stage, counted, f"{where} [[stage]] '{stage.name}'")
        _check(stage, stages, f"{where} [[stage]] '{stage.name}'")
        stages.append(stage)
    return tuple(stages)


def _parse_stage(table: dict[str, Any], where: str) -> Stage:
    stage = parse(Stage, {key: value for key, value in table.items() if key != "data"}, where)
    data = table.get("data", ())
    if not isinstance(data, (list, tuple)) or not all(isinstance(each, dict) for each in cast("list[Any]", data)):
        raise InputError(f'{where} data: expected a list of sources, as [{{path = "photos", weight = 0.7}}]')
    return replace(stage, data=tuple(parse(Source, each, f"{where} data") for each in cast("list[Any]", data)))


def _check_length(stage: Stage, counted: bool, where: str) -> None:
    right = stage.steps > 0 if counted else (stage.steps > 0) != (stage.epochs > 0)
    if not right:
        raise InputError(f"{where} steps: give either steps or epochs, above 0")
    if stage.epochs and len(stage.sources) > 1:
        raise InputError(f"{where} epochs: of several sources there is no one number of epochs; give steps")


def _check(stage: Stage, earlier: Sequence[Stage], where: str) -> None:
    names = [each.name for each in earlier]
    if not stage.name or stage.name in names:
        raise InputError(f"{where} name: must be a name that no other stage has")
    if stage.lr and stage.lr_factor != 1:
        raise InputError(f"{where} lr: {stage.lr:g} beside lr_factor {stage.lr_factor:g}; give one of them")
    if stage.lr_factor == 0:
        raise InputError(f"{where} lr_factor: must be above 0")
    if stage.warmup and not earlier:
        raise InputError(f"{where} warmup: the first stage has [training] warmup; give that")
    if (stage.replay != "") != (stage.replay_share > 0):
        raise InputError(
            f"{where} replay_share: replay names an earlier stage and replay_share says how much; give both"
        )
    if stage.replay and stage.replay not in names:
        raise InputError(f"{where} replay: no earlier stage '{stage.replay}'; {nearest(stage.replay, names)}")
    if stage.data and not stage.sources:
        raise InputError(f"{where} data: every weight is 0")


def with_steps(
    stages: Sequence[Stage], batch: int, count: Callable[[Stage], int | None], where: str
) -> tuple[Stage, ...]:
    """The stages with the steps of those that are given in epochs.

    Args:
        stages: as parsed.
        batch: images a step where a stage has no batch of its own.
        count: samples of an epoch of a stage's data, None where nobody can count them.
        where: the file, for errors.

    Raises:
        InputError: a stage is given in epochs, and its data are not counted or less than a batch.
    """
    return tuple(_with_steps(stage, batch, count, f"{where} [[stage]] '{stage.name}'") for stage in stages)


def _with_steps(stage: Stage, batch: int, count: Callable[[Stage], int | None], where: str) -> Stage:
    if stage.steps:
        return stage
    samples, size = count(stage), stage.batch or batch
    if samples is None:
        raise InputError(f"{where} epochs: the number of samples of its data is not known; give steps")
    # As written in decimals: in binary 4.35 x 100 is less than 435.
    steps = int(Fraction(str(stage.epochs)) * samples) // size
    if not steps:
        raise InputError(f"{where} epochs: {stage.epochs:g} of {samples} samples are less than a batch of {size}")
    return replace(stage, steps=steps)


def stages_identity(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """What of the stages changes a run's weights: not what they are called, nor epochs beside their steps.

    Args:
        stages: with their steps.
    """
    numbers = {stage.name: number for number, stage in enumerate(stages)}
    return [_identity(stage, numbers) for stage in stages]


def _identity(stage: Stage, numbers: dict[str, int]) -> dict[str, Any]:
    identity = chosen(replace(stage, epochs=0.0))
    if stage.replay:
        identity["replay"] = numbers[stage.replay]
    if stage.data:
        identity["data"] = [chosen(source) for source in stage.sources]
    return identity
