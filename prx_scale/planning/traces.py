"""What tracing a few blocks found, and how it goes on to a model of any depth. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from parallel.costs import Memory, Operation, Operations, Passes

BLOCKS = 4
"""The least that has a first block, two in the middle, and a last: enough to tell what one block more adds."""


@dataclass(frozen=True, kw_only=True)
class StateBytes:
    """Bytes that one process keeps from step to step, of the traced blocks."""

    parameters: int
    block_parameters: int
    """Of one block in the middle."""
    optimizer: int
    block_optimizer: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A training step of a few blocks, as one process sees it."""

    blocks: int
    images: int
    accumulates: bool
    states: StateBytes
    passes: Passes
    update_peak: int
    """Bytes that clipping, the optimiser and averaging need above all that is kept."""
    validation: Passes
    """A forward pass without gradients, of as many images as validation takes at once."""
    raw_inputs: int
    """Bytes of a micro-batch as it comes."""
    operations: Operations
    update: Operations
    """Clipping, the optimiser and averaging."""


def between(low: Trace, high: Trace, images: int) -> Trace:
    """The trace of a micro-batch between two, or beyond them: sizes are affine in the images.

    Args:
        low: of some images.
        high: of more.
        images: of the micro-batch asked for.
    """
    if low.images == high.images:
        return low
    share = (images - low.images) / (high.images - low.images)
    return replace(
        low,
        images=images,
        passes=_passes_between(low.passes, high.passes, share),
        validation=_passes_between(low.validation, high.validation, share),
        raw_inputs=round(low.raw_inputs + share * (high.raw_inputs - low.raw_inputs)),
        operations=Operations(
            all=_operations_between(low.operations.all, high.operations.all, share),
            block=_operations_between(low.operations.block, high.operations.block, share),
        ),
    )


def replicated(trace: Trace, copies: int) -> Trace:
    """The trace of the same processes in groups that hold a copy of the weights each (HSDP).

    Each process keeps as many times more of what is sharded; gathers and scatters stay inside a group, and a process
    adds up its part of the gradients with its peers in other groups.

    Args:
        trace: all processes share one copy.
        copies: divides the processes.
    """
    if copies == 1:
        return trace
    states = StateBytes(**{name: copies * value for name, value in vars(trace.states).items()})
    return replace(
        trace,
        states=states,
        passes=_passes_of(trace.passes, lambda memory: _kept_times(memory, copies)),
        validation=_passes_of(trace.validation, lambda memory: _kept_times(memory, copies)),
        operations=Operations(
            all=_grouped(trace.operations.all, copies), block=_grouped(trace.operations.block, copies)
        ),
        update=Operations(all=tuple(_grown(each, copies) for each in trace.update.all)),
    )


def _kept_times(memory: Memory, copies: int) -> Memory:
    return replace(
        memory,
        parameters=copies * memory.parameters,
        gradients=copies * memory.gradients,
    )


def _passes_of(passes: Passes, change: Callable[[Memory], Memory]) -> Passes:
    return Passes(
        before=change(passes.before),
        peak=change(passes.peak),
        entering=tuple(map(change, passes.entering)),
        forward=tuple(map(change, passes.forward)),
        backward=tuple(map(change, passes.backward)),
    )


def _grown(operation: Operation, copies: int) -> Operation:
    return operation if operation.group else replace(operation, moved=copies * operation.moved)


def _grouped(operations: tuple[Operation, ...], copies: int) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for each in operations:
        if each.name not in ("_allgather_base_", "_reduce_scatter_base_"):
            found.append(each)
            continue
        group = each.group[: len(each.group) // copies]
        found.append(replace(each, group=group))
        if each.name == "_reduce_scatter_base_":
            peers = each.group[:: len(group)]
            found.append(Operation(phase=each.phase, name="allreduce_", group=peers, sent=each.sent // len(group)))
    return tuple(found)


def _passes_between(low: Passes, high: Passes, share: float) -> Passes:
    def many(name: str) -> tuple[Memory, ...]:
        pairs = zip(getattr(low, name), getattr(high, name), strict=True)
        return tuple(_affine(one, other, share) for one, other in pairs)

    return Passes(
        before=_affine(low.before, high.before, share),
        peak=_affine(low.peak, high.peak, share),
        entering=many("entering"),
        forward=many("forward"),
        backward=many("backward"),
    )


def _operations_between(low: tuple[Operation, ...], high: tuple[Operation, ...], share: float) -> tuple[Operation, ...]:
    return tuple(_affine(one, other, share) for one, other in zip(low, high, strict=True))


Numbers = TypeVar("Numbers", Memory, Operation)


def _affine(low: Numbers, high: Numbers, share: float) -> Numbers:
    """Every whole number between those of two records, or beyond them; the rest is the first one's."""
    changes = {
        name: round(value + share * (getattr(high, name) - value))
        for name, value in vars(low).items()
        if isinstance(value, int)
    }
    return replace(low, **changes)
