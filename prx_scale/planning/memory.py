"""Peak memory of a model of any depth, from the trace of a few blocks. Needs no torch.

What a block in the middle adds is the same for each of them, so memory at a given place is linear in the blocks before
it, which keep activations, and in the blocks after it, whose gradients there are already. It is highest at one of few
places: at either end of the forward or backward pass, next to an end, in the optimiser's step, or in validation, where
the trainer keeps a second copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from parallel.costs import Memory
from prx_scale.planning.traces import Trace

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


def peak_memory(
    trace: Trace, depth: int, *, averages: bool, accumulation: int, validation: bool = True
) -> MemoryByKind:
    """The moment at which a process needs most, at a depth.

    Args:
        trace: of a few blocks.
        depth: blocks of the whole model, at least as many as were traced, or those of the trace.
        averages: averaged weights are kept.
        accumulation: micro-batches a step.
        validation: the run validates.
    """
    moments = _moments(trace, depth, averages=averages, accumulation=accumulation, validation=validation)
    return max(moments, key=lambda each: each.total)


def _moments(
    trace: Trace, depth: int, *, averages: bool, accumulation: int, validation: bool
) -> Iterator[MemoryByKind]:
    states, more = trace.states, depth - trace.blocks
    parameters = states.parameters + more * states.block_parameters
    kept = {
        "parameters": parameters,
        "optimizer": states.optimizer + more * states.block_optimizer,
        "ema": parameters if averages else 0,
    }
    waiting = (accumulation - 1) * trace.raw_inputs
    passes = trace.passes
    added = _difference(passes.entering[2], passes.entering[1])

    def in_pass(moment: str, memory: Memory, *, deep: bool) -> MemoryByKind:
        """Deep: after all blocks' forward passes; else the backward pass is almost done."""
        gradients = memory.gradients + (0 if deep and not trace.accumulates else more * states.block_parameters)
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
    if validation:
        forward = trace.validation.peak
        deep_communication = _difference(trace.validation.entering[2], trace.validation.entering[1]).communication
        yield MemoryByKind(
            moment="validation, with the weights kept aside",
            gradients=parameters,
            activations=forward.activations,
            inputs=forward.inputs,
            communication=forward.communication + more * deep_communication,
            **{**kept, "ema": 2 * kept["ema"]},
        )


def _difference(one: Memory, other: Memory) -> Memory:
    return Memory(**{name: value - getattr(other, name) for name, value in vars(one).items()})


def _ends(blocks: tuple[Memory, ...]) -> list[tuple[str, Memory]]:
    return [
        ("first", blocks[0]),
        ("second", blocks[1]),
        ("last but one", blocks[-2]),
        ("last", blocks[-1]),
    ]
