"""From a run, a number of GPUs and a machine to a plan: the layouts compared, the best one traced as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from prx_scale.errors import InputError
from prx_scale.models.sizes import ParameterCounts, forward_flops, parameters
from prx_scale.planning.candidates import Choices, Mesh, meshes
from prx_scale.planning.hardware import Machine
from prx_scale.planning.memory import GIB, MemoryByKind, peak_memory
from prx_scale.planning.timing import StepTime, step_time
from prx_scale.planning.traces import BLOCKS, Trace, between, replicated
from prx_scale.planning.workload import Layout, PlannedRun, layout_of

Progress = Callable[[str, int, int], None]
"""Is told what is being traced, how many traces are done, and how many there are."""
LEAST_TRACED = 2
"""Images of the smaller micro-batch of two: a single image needs fewer operators, as its tensors lie in one piece."""
MOST_GPUS = 65536
"""Where the search for a number of GPUs that fits ends."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One layout: what it needs and how fast it is."""

    layout: Layout
    memory: MemoryByKind
    """At the peak of training."""
    validation: MemoryByKind
    step: StepTime
    mfu: float
    """Model FLOPs utilisation: 3 F x images / (time x peak), nothing computed again counted."""

    def fits(self, machine: Machine) -> bool:
        """Whether training stays within what the machine leaves free."""
        return self.memory.total <= machine.usable_gib * GIB


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What training a run takes."""

    run: PlannedRun
    machine: Machine
    counts: ParameterCounts
    flops_per_image: int
    """Of a forward pass."""
    best: Estimate
    """The fastest that fits, traced as it is; where none fits, the one that needs least."""
    table: tuple[Estimate, ...]
    """The fastest of every mesh, fastest first; those that fit before the rest."""
    fits: bool
    remedy: str = ""
    """Where none fits, the smallest change that does."""

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return self.counts.backbone + self.counts.embedding

    @property
    def images(self) -> int:
        """Of the whole run."""
        return self.run.training.batch * self.run.training.steps

    @property
    def flops_per_run(self) -> int:
        """Training FLOPs: three forward passes an image."""
        return 3 * self.flops_per_image * self.images

    @property
    def seconds(self) -> float:
        """Of all steps; validation and checkpoints come on top."""
        return self.best.step.seconds * self.run.training.steps

    @property
    def gpu_hours(self) -> float:
        """Of all steps."""
        return self.seconds * self.best.layout.gpus / 3600


def plan(
    run: PlannedRun, gpus: int, machine: Machine, choices: Choices | None = None, progress: Progress | None = None
) -> Plan:
    """Plan a run: needs torch, but no GPU.

    Args:
        run: the run.
        gpus: processes, one a GPU.
        machine: what a GPU does.
        choices: what of the layout is settled; the rest is compared.
        progress: is told how far it is.

    Raises:
        InputError: an impossible layout or batch.
    """
    settled = choices or Choices()
    say = progress or (lambda *_: None)
    estimates = _estimates(run, gpus, machine, settled, say)
    fitting = [each for each in estimates if each.fits(machine)]
    remedy = "" if fitting else _remedy(run, gpus, machine, settled, say)
    chosen = min(fitting, key=_seconds) if fitting else min(estimates, key=lambda each: each.memory.total)
    best = exact_estimate(run, chosen.layout, machine)
    return Plan(
        run=run,
        machine=machine,
        counts=parameters(run.shape),
        flops_per_image=forward_flops(run.shape),
        best=best,
        table=_table(estimates, machine),
        fits=best.fits(machine),
        remedy=remedy,
    )


def exact_estimate(run: PlannedRun, layout: Layout, machine: Machine) -> Estimate:
    """One layout, traced with its own degrees and micro-batch.

    Args:
        run: the run, of any layout.
        layout: to trace.
        machine: what a GPU does.

    Raises:
        InputError: an impossible layout or batch.
    """
    from prx_scale.planning.tracing import trace

    parallel = replace(
        run.parallel,
        tp=layout.tp,
        cp=layout.cp,
        dp_replicate=layout.dp_replicate,
        dp_shard=-1,
        checkpointing=layout.checkpointing,
        micro_batch=layout.micro_batch,
    )
    own = replace(run, parallel=parallel)
    blocks = min(BLOCKS, run.model.depth)
    (found,) = trace(own, layout.gpus, [layout.micro_batch], accumulates=layout.accumulation > 1, blocks=blocks)
    return _estimate(own, layout.gpus, found, machine)


def _estimates(run: PlannedRun, gpus: int, machine: Machine, choices: Choices, say: Progress) -> list[Estimate]:
    found = meshes(run, gpus, machine.per_node, choices)
    estimates: list[Estimate] = []
    for number, mesh in enumerate(found):
        say(_title(mesh), number, len(found) + 1)
        estimates += _of_mesh(mesh, gpus, machine)
    say("the best layout as it is", len(found), len(found) + 1)
    return estimates


def _title(mesh: Mesh) -> str:
    parallel = mesh.run.parallel
    return f"TP {parallel.tp}, CP {parallel.cp}, {parallel.checkpointing} checkpointing"


def _of_mesh(mesh: Mesh, gpus: int, machine: Machine) -> list[Estimate]:
    from prx_scale.planning.tracing import trace

    sizes = mesh.micro_batches
    ends = sizes if len(sizes) == 1 else (LEAST_TRACED, max(2 * LEAST_TRACED, sizes[-1]))
    blocks = min(BLOCKS, mesh.run.model.depth)
    traces = trace(mesh.run, gpus, ends, accumulates=False, blocks=blocks)
    return [
        _estimate(
            replace(mesh.run, parallel=replace(mesh.run.parallel, micro_batch=images, dp_replicate=copies)),
            gpus,
            replicated(between(traces[0], traces[-1], images), copies),
            machine,
        )
        for copies in mesh.replicas
        for images in mesh.micro_batches
    ]


def _estimate(run: PlannedRun, gpus: int, trace: Trace, machine: Machine) -> Estimate:
    layout, depth = layout_of(run, gpus), run.model.depth
    step = step_time(trace, depth, machine, accumulation=layout.accumulation, fused=layout.compile)
    useful = 3 * forward_flops(run.shape) * run.training.batch
    training, validation = peak_memory(trace, depth, averages=run.averages, accumulation=layout.accumulation)
    return Estimate(
        layout=layout,
        memory=training,
        validation=validation,
        step=step,
        mfu=useful / (step.seconds * gpus * machine.peak_tflops * 1e12),
    )


def _seconds(estimate: Estimate) -> float:
    return estimate.step.seconds


def _table(estimates: list[Estimate], machine: Machine) -> tuple[Estimate, ...]:
    """The best micro-batch of each combination of degrees, copies and checkpointing."""
    groups: dict[tuple[object, ...], list[Estimate]] = {}
    for each in estimates:
        layout = each.layout
        key = (layout.tp, layout.cp, layout.dp_replicate, layout.checkpointing)
        groups.setdefault(key, []).append(each)
    best = [
        min(fitting, key=_seconds)
        if (fitting := [each for each in group if each.fits(machine)])
        else min(group, key=lambda each: each.memory.total)
        for group in groups.values()
    ]
    return tuple(sorted(best, key=lambda each: (not each.fits(machine), each.step.seconds)))


def _remedy(run: PlannedRun, gpus: int, machine: Machine, choices: Choices, say: Progress) -> str:
    """Open one settled choice after the other, then double the GPUs, until something fits."""
    for option, opened in (
        ("--micro-batch", replace(choices, micro_batch=None)),
        ("--ac", replace(choices, micro_batch=None, checkpointing=None)),
    ):
        if opened != choices and (better := _first_fit(run, gpus, machine, opened, say)):
            layout = better.layout
            words = f"--micro-batch {layout.micro_batch}"
            return words if option == "--micro-batch" else f"--ac {layout.checkpointing} {words}"
    open_choices = replace(choices, micro_batch=None, checkpointing="full", dp_replicate=None)
    more = 2 * gpus
    while more <= MOST_GPUS and run.training.batch % (more // ((choices.tp or 1) * (choices.cp or 1))) == 0:
        if better := _first_fit(run, more, machine, open_choices, say):
            return f"--gpus {more} --ac full --micro-batch {better.layout.micro_batch}"
        more *= 2
    return ""


def _first_fit(run: PlannedRun, gpus: int, machine: Machine, choices: Choices, say: Progress) -> Estimate | None:
    try:
        estimates = _estimates(run, gpus, machine, choices, say)
    except InputError:
        return None
    return min((each for each in estimates if each.fits(machine)), key=_seconds, default=None)
