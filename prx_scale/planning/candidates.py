"""Which layouts a run could have on a number of GPUs. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

from prx_scale.errors import InputError
from prx_scale.layout import check_layout, divisors
from prx_scale.planning.workload import PlannedRun

Checkpointing = Literal["none", "selective", "full"]
CHECKPOINTING: tuple[Checkpointing, ...] = ("none", "selective", "full")
MOST_AT_ONCE = 64
"""Images of the largest micro-batch that is tried: beyond it products get no faster."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What of the layout is settled; None is open."""

    tp: int | None = None
    cp: int | None = None
    dp_replicate: int | None = None
    checkpointing: Checkpointing | None = None
    micro_batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Candidates that compute alike: they differ in copies of the weights and in the micro-batch."""

    run: PlannedRun
    """With the degrees and the checkpointing; one copy of the weights over all processes."""
    replicas: tuple[int, ...]
    micro_batches: tuple[int, ...]
    """In order."""


def meshes(run: PlannedRun, gpus: int, per_node: int, choices: Choices) -> list[Mesh]:
    """The layouts to compare.

    Args:
        run: the run; its own layout gives what is neither settled nor enumerated.
        gpus: processes.
        per_node: GPUs of a machine.
        choices: what is settled.

    Raises:
        InputError: what is settled leaves no layout; says what would.
    """
    if gpus < 1:
        raise InputError(f"--gpus: {gpus} is too small; at least 1")
    found = [
        mesh
        for tp in _tensor_degrees(run, gpus, per_node, choices)
        for cp in _context_degrees(run, gpus // tp, choices)
        for checkpointing in ((choices.checkpointing,) if choices.checkpointing else CHECKPOINTING)
        for mesh in _mesh(run, gpus, per_node, choices, tp=tp, cp=cp, checkpointing=checkpointing)
    ]
    if not found:
        raise InputError(_why_none(run, gpus, choices))
    return found


def _tensor_degrees(run: PlannedRun, gpus: int, per_node: int, choices: Choices) -> list[int]:
    heads = run.model.heads
    possible = divisors(heads)
    if choices.tp is not None:
        if choices.tp not in possible:
            listed = ", ".join(str(each) for each in possible if each > 1)
            raise InputError(f"--tp: {heads} heads: tensor parallel degrees that divide are {listed}, not {choices.tp}")
        _must_divide("--tp", choices.tp, gpus)
        return [choices.tp]
    return [each for each in possible if each <= per_node and gpus % each == 0]


def _context_degrees(run: PlannedRun, gpus: int, choices: Choices) -> list[int]:
    if choices.cp is None:
        return [1]
    _must_divide("--cp", choices.cp, gpus)
    check_layout(replace(run, parallel=replace(run.parallel, tp=1, cp=choices.cp, compile=False)), "--cp:")
    return [choices.cp]


def _must_divide(option: str, degree: int, gpus: int) -> None:
    if degree < 1 or gpus % degree:
        listed = ", ".join(map(str, divisors(gpus)))
        raise InputError(f"{option}: {degree} does not divide {gpus} GPUs; degrees that do are {listed}")


def _mesh(
    run: PlannedRun, gpus: int, per_node: int, choices: Choices, *, tp: int, cp: int, checkpointing: Checkpointing
) -> Iterator[Mesh]:
    if run.parallel.compile and checkpointing == "selective" and tp > 1:
        return  # fails in torch 2.13, see prx_scale.layout
    groups = gpus // (tp * cp)
    if run.training.batch % groups:
        return
    share = run.training.batch // groups
    sizes = [each for each in divisors(share) if each <= MOST_AT_ONCE or each == share == choices.micro_batch]
    if choices.micro_batch is not None:
        sizes = [choices.micro_batch] if share % max(choices.micro_batch, 1) == 0 else []
    replicas = _replicas(groups, gpus, per_node, choices)
    if sizes and replicas:
        parallel = replace(
            run.parallel, tp=tp, cp=cp, dp_replicate=1, dp_shard=-1, checkpointing=checkpointing, micro_batch=sizes[0]
        )
        yield Mesh(run=replace(run, parallel=parallel), replicas=tuple(replicas), micro_batches=tuple(sizes))


def _replicas(groups: int, gpus: int, per_node: int, choices: Choices) -> list[int]:
    """One copy of the weights over all, or one in each machine."""
    if choices.dp_replicate is not None:
        return [choices.dp_replicate] if choices.dp_replicate > 0 and groups % choices.dp_replicate == 0 else []
    nodes = gpus // per_node if gpus % per_node == 0 else 1
    return sorted({1, nodes} if groups % nodes == 0 else {1})


def _why_none(run: PlannedRun, gpus: int, choices: Choices) -> str:
    batch = run.training.batch
    processes = gpus // ((choices.tp or 1) * (choices.cp or 1))
    if batch % processes:
        below, above = batch // processes * processes, -(-batch // processes) * processes
        return (
            f"--batch: {batch} images cannot be dealt out over {processes} data-parallel processes; "
            f"{' or '.join(str(each) for each in (below, above) if each)} can, or other --gpus"
        )
    if choices.dp_replicate is not None and processes % max(choices.dp_replicate, 1):
        listed = ", ".join(map(str, divisors(processes)))
        return (
            f"--dp-replicate: {choices.dp_replicate} does not divide {processes} processes; degrees that do: {listed}"
        )
    if choices.micro_batch is not None and (batch // processes) % max(choices.micro_batch, 1):
        listed = ", ".join(map(str, divisors(batch // processes)))
        return (
            f"--micro-batch: {choices.micro_batch} does not divide the {batch // processes} images of a process; "
            f"sizes that do: {listed}"
        )
    return "--ac: selective checkpointing inside compiled blocks fails under tensor parallelism; use full or none"


def choices_of(run: PlannedRun) -> Choices:
    """All that a run's own [parallel] table settles.

    Args:
        run: of a study.
    """
    parallel = run.parallel
    return Choices(
        tp=parallel.tp,
        cp=parallel.cp,
        dp_replicate=parallel.dp_replicate,
        checkpointing=cast("Checkpointing", parallel.checkpointing),
        micro_batch=parallel.micro_batch or None,
    )
