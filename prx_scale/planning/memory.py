"""Peak memory of a model of any depth, from the trace of a few blocks. Needs no torch.

What a block in the middle adds is the same for each of them, so memory at a given place is linear in the blocks before
it, which keep activations, and in the blocks after it, whose gradients there are already. It is highest at one of few
places: at either end of the forward or backward pass, next to an end, in the optimiser's step, or in validation, where
the trainer keeps a second copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from parallel.costs import Memory, Passes
from prx_scale.planning.traces import BLOCKS, Trace

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class MemoryByKind:
    """Bytes on one GPU, by kind, at one moment of a step."""

    moment: str
    parameters: float
    gradients: float
    optimizer: float
    ema: float
    activations: float
    inputs: float
    communication: float

    @property
    def total(self) -> float:
        """Over all kinds."""
        return sum(value for name, value in asdict(self).items() if name != "moment")


def peak_memory(trace: Trace, depth: int, *, averages: bool, accumulation: int) -> tuple[MemoryByKind, MemoryByKind]:
    """The moments at which a process needs most, in training and in validation.

    Args:
        trace: of a few blocks.
        depth: blocks of the whole model; as many as were traced where those are fewer than four.
        averages: averaged weights are kept.
        accumulation: micro-batches a step.
    """
    *training, validation = _moments(trace, depth, averages=averages, accumulation=accumulation)
    return max(training, key=lambda each: each.total), validation


def _moments(trace: Trace, depth: int, *, averages: bool, accumulation: int) -> Iterator[MemoryByKind]:
    """Places of a step at which memory may be highest, and last of all validation."""
    states, more = trace.states, depth - trace.blocks
    parameters = states.parameters + more * states.block_parameters
    kept = {
        "parameters": parameters,
        "optimizer": states.optimizer + more * states.block_optimizer,
        "ema": parameters if averages else 0,
    }
    waiting = (accumulation - 1) * trace.raw_inputs
    passes = trace.passes
    added = _added(passes)

    def in_pass(moment: str, memory: Memory, *, deep: bool) -> MemoryByKind:
        """Deep: after all blocks' forward passes; else the backward pass is almost done."""
        gradients = memory.gradients + (0 if deep and not trace.accumulates else more * states.block_parameters)
        if accumulation > 1 and not trace.accumulates:  # those of earlier micro-batches, and a block's new ones
            gradients = parameters + states.block_parameters
        return MemoryByKind(
            moment=moment,
            gradients=gradients,
            activations=memory.activations + (more * added.activations if deep else 0),
            inputs=memory.inputs + waiting,
            communication=memory.communication + (more * added.communication if deep else 0),
            **kept,
        )

    yield in_pass("forward pass of the last block", passes.forward[-1], deep=True)
    for place, memory in _ends(passes.backward):
        yield in_pass(f"backward pass of the {place} block", memory, deep=place in ("last", "last but one"))
    if passes.peak.total > max(each.total for each in (*passes.forward, *passes.backward)):
        deep = passes.peak.activations >= passes.entering[-1].activations
        yield in_pass("between the passes" if deep else "end of the backward pass", passes.peak, deep=deep)
    yield MemoryByKind(
        moment="optimiser's step",
        gradients=parameters,
        activations=trace.update_peak,
        inputs=passes.before.inputs + waiting,
        communication=0,
        **kept,
    )
    forward = trace.validation.peak
    yield MemoryByKind(
        moment="validation, with the weights kept aside",
        gradients=parameters,
        activations=forward.activations,
        inputs=forward.inputs,
        communication=forward.communication + more * _added(trace.validation).communication,
        **{**kept, "ema": 2 * kept["ema"]},
    )


def _added(passes: Passes) -> Memory:
    """What a block in the middle leaves behind after its forward pass."""
    if len(passes.entering) < BLOCKS:
        return Memory()
    before, after = passes.entering[1:3]
    return Memory(**{name: value - getattr(before, name) for name, value in vars(after).items()})


def _ends(blocks: tuple[Memory, ...]) -> list[tuple[str, Memory]]:
    """The last blocks first, so that each has one name where there are few."""
    names = ("last", "last but one", "second", "first") if len(blocks) >= BLOCKS else ("last", "last but one", "first")
    order = [blocks[-1], *blocks[-2:-1], *(blocks[1::-1] if len(blocks) >= BLOCKS else blocks[:-2])]
    return list(zip(names, order, strict=False))
