"""Time of a step from its counted operators: a roofline for each of them. Needs no torch.

A product takes its FLOPs over the rate that products reach, any operator at least its bytes over the rate of memory.
FSDP2's collectives run beside the computation, so a block takes the longer of the two; those of tensor and context
parallelism stand in its way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from parallel.costs import Operation
from prx_scale.planning.hardware import DISPATCH_SECONDS, LATENCY_SECONDS, Machine
from prx_scale.planning.traces import Trace

SHARDING = ("_allgather_base_", "_reduce_scatter_base_", "allreduce_")
"""Collectives of FSDP2; others are functional ones of tensor and context parallelism, or of clipping."""


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """Seconds of one part of a step, on one process."""

    matrix: float = 0
    attention: float = 0
    memory_bound: float = 0
    waiting: float = 0
    """For Python to launch operators."""
    blocking: float = 0
    """Collectives that computation waits for."""
    sharding: float = 0
    """FSDP2's collectives, beside the computation."""

    @property
    def computing(self) -> float:
        """All but FSDP2's collectives."""
        return self.matrix + self.attention + self.memory_bound + self.waiting + self.blocking

    @property
    def seconds(self) -> float:
        """With FSDP2's collectives beside the computation."""
        return max(self.computing, self.sharding)

    def __add__(self, other: PassTime) -> PassTime:
        return self.combined(other, 1)

    def combined(self, other: PassTime, times: float) -> PassTime:
        """This, and another part so many times."""
        return PassTime(**{name: value + times * getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of a training step."""

    forward: PassTime
    """Of one micro-batch, all blocks."""
    backward: PassTime
    update: PassTime
    """Clipping, optimiser and averaging."""
    exposed: float
    """FSDP2's collectives at the ends of the passes, which have nothing beside them."""
    accumulation: int
    sent_bytes: dict[str, float]
    """Bytes a step that one process receives, by what for."""

    @property
    def seconds(self) -> float:
        """Of the step."""
        passes = self.forward.seconds + self.backward.seconds + self.exposed
        return self.accumulation * passes + self.update.seconds


def step_time(trace: Trace, depth: int, machine: Machine, *, accumulation: int, fused: bool) -> StepTime:
    """Estimate the time of a step.

    Args:
        trace: of a few blocks, with the micro-batch that is planned.
        depth: blocks of the whole model.
        machine: rates.
        accumulation: micro-batches a step.
        fused: operators between products are one kernel, as a compiler makes them.
    """
    times: dict[str, PassTime] = {}
    sent: defaultdict[str, float] = defaultdict(float)
    more = depth - trace.blocks
    for phase in ("forward", "backward"):
        whole, block = (_of_phase(part, phase) for part in (trace.operations.all, trace.operations.block))
        times[phase] = _time(whole, machine, fused=fused).combined(_time(block, machine, fused=fused), more)
        for part, often in ((whole, accumulation), (block, accumulation * more)):
            for kind, size in _received(part).items():
                sent[kind] += often * size
    # An optimiser does the same to every parameter.
    growth = more * trace.states.block_parameters / trace.states.parameters
    update = _time(trace.update.all, machine, fused=False)
    return StepTime(
        forward=times["forward"],
        backward=times["backward"],
        update=update.combined(update, growth),
        exposed=_exposed(trace.operations.all, machine),
        accumulation=accumulation,
        sent_bytes=dict(sent),
    )


def _of_phase(operations: Iterable[Operation], phase: str) -> list[Operation]:
    return [each for each in operations if each.phase == phase]


def _time(operations: Iterable[Operation], machine: Machine, *, fused: bool) -> PassTime:
    matrix = attention = moving = blocking = sharding = 0.0
    launches = 0
    for each in operations:
        if each.group:
            seconds = collective_seconds(each, machine)
            if each.name in SHARDING:
                sharding += seconds
            else:
                blocking += seconds
            continue
        bytes_moved = each.fused if fused and not each.flops else each.moved
        moved = bytes_moved / (machine.memory_gbs * 1e9 * machine.memory_share)
        launches += bool(bytes_moved or each.flops)
        if not each.flops:
            moving += moved
        elif "attention" in each.name:
            attention += max(moved, each.flops / (machine.peak_tflops * 1e12 * machine.attention_share))
        else:
            matrix += max(moved, each.flops / (machine.peak_tflops * 1e12 * machine.matrix_share))
    waiting = max(0.0, launches * DISPATCH_SECONDS - (matrix + attention + moving))
    return PassTime(
        matrix=matrix, attention=attention, memory_bound=moving, waiting=waiting, blocking=blocking, sharding=sharding
    )


def collective_seconds(operation: Operation, machine: Machine) -> float:
    """Time of a collective: what a process receives over the slower of its links, and a latency.

    A ring over several machines enters each through as many adapters as the group has processes there, so its rate is
    that of the machine's own links or of these adapters together, whichever is less.

    Args:
        operation: a collective.
        machine: rates.
    """
    group = len(operation.group)
    if group == 1:
        return 0.0
    nodes = Counter(rank // machine.per_node for rank in operation.group)
    rate = machine.link_gbs
    if len(nodes) > 1:
        rate = min(rate, machine.network_gbs * min(nodes.values()))
    return received_bytes(operation) / (rate * 1e9 * machine.link_share) + LATENCY_SECONDS


def received_bytes(operation: Operation) -> float:
    """Bytes that one process of a ring receives: (n - 1)/n of the tensor, twice for an all-reduce.

    Args:
        operation: a collective.
    """
    group = len(operation.group)
    passes = 2 if operation.name.replace("_", "").startswith("allreduce") else 1
    return passes * operation.sent * (group - 1) / group


def _received(operations: Iterable[Operation]) -> defaultdict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for each in operations:
        if each.group:
            sums[_purpose(each)] += received_bytes(each)
    return sums


def _purpose(operation: Operation) -> str:
    match operation.name:
        case "_allgather_base_":
            return "fsdp_all_gather"
        case "_reduce_scatter_base_":
            return "fsdp_reduce_scatter"
        case "allreduce_":
            return "hsdp_all_reduce"
    return "tensor_and_context"


def _exposed(operations: tuple[Operation, ...], machine: Machine) -> float:
    """The first gathers of the forward pass, of the outer parameters and the first block, and the last scatter."""
    gathers = [each for each in operations if each.name == "_allgather_base_" and each.phase == "forward"]
    scatters = [each for each in operations if each.name == "_reduce_scatter_base_"]
    return sum(collective_seconds(each, machine) for each in (*gathers[:2], *scatters[-1:]))
