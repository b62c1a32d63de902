"""What `plan` is to plan of a study: its runs that differ in what they take, and each stage of them by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale import study
from prx_scale.errors import InputError
from prx_scale.planning import choices_of, encoders_gib, planned
from prx_scale.turns import Turns

if TYPE_CHECKING:
    from prx_scale.config import RunConfig
    from prx_scale.planning import Choices, Machine, Plan, PlannedRun


@dataclass(frozen=True, kw_only=True)
class Work:
    """Steps of a run that are planned together."""

    run: PlannedRun
    machine: Machine
    choices: Choices
    stage: str = ""
    """Name of their stage; empty where a run has none."""


def works_of_study(file: Path, machine: Callable[[str], Machine], *, averages: bool) -> list[tuple[Work, ...]]:
    """The runs of a study that differ in what they take, each as its parts.

    Args:
        file: the study file.
        machine: for a precision.
        averages: averaged weights are kept.

    Raises:
        InputError: a run cannot be planned.
    """
    found: dict[object, tuple[Work, ...]] = {}
    for run in study.load(file).runs:
        if run.training.precision == "float8":
            raise InputError(
                f"{file}: [training] precision: float8 cannot be traced without a GPU that has it; plan "
                '"bfloat16", which needs no less memory and time'
            )
        works = works_of(run, machine(run.training.precision), averages=averages)
        found.setdefault(tuple(_costs(work) for work in works), works)
    return list(found.values())


def works_of(run: RunConfig, machine: Machine, *, averages: bool = True) -> tuple[Work, ...]:
    """The parts of a run, which a stage or what it replays makes differ.

    Args:
        run: of a study.
        machine: what a GPU does.
        averages: averaged weights are kept.

    Raises:
        InputError: encoders leave no memory to train in.
    """
    machine = replace(machine, encoders_gib=encoders_gib(run))
    if machine.usable_gib <= 0:
        raise InputError(
            f"{run.id}: [encoding]: the text encoders of {run.encoding.processes} processes hold "
            f"{machine.encoders_gib:.1f} of the {machine.memory_gib:g} GiB of one {machine.gpu}, which leaves nothing "
            'to train in; take fewer processes, device = "cpu", or a store'
        )
    parts = [(part.name, replace(planned(part.run), averages=averages)) for part in Turns(run).parts()]
    return tuple(Work(run=own, machine=machine, choices=choices_of(own), stage=name) for name, own in parts)


def _costs(work: Work) -> tuple[object, ...]:
    run, training = work.run, work.run.training
    held = work.machine.encoders_gib
    return run.shape, held, training.batch, training.steps, training.precision, training.optimizer, run.parallel


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A run of several parts, all of them together."""

    depth: int
    images: int
    flops: int
    seconds: float
    gpu_hours: float

    def to_json(self, price: float) -> dict[str, Any]:
        """As `plan --json` has it.

        Args:
            price: of a GPU for an hour; 0 where none was given.
        """
        return {
            "depth": self.depth,
            "images": self.images,
            "flops_per_run": self.flops,
            "days": self.seconds / 86400,
            "gpu_hours": self.gpu_hours,
            "cost": self.gpu_hours * price if price else None,
        }


def whole(plans: Sequence[Plan]) -> Whole:
    """All parts of a run together.

    Args:
        plans: of each.
    """
    return Whole(
        depth=plans[0].run.model.depth,
        images=sum(plan.images for plan in plans),
        flops=sum(plan.flops_per_run for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
        gpu_hours=sum(plan.gpu_hours for plan in plans),
    )
