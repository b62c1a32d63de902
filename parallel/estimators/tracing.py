"""Passes through a model, and what is none, under the trackers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from parallel.costs import Memory, Operations, Passes
from parallel.estimators.memory import kinds_of, marks_of, memory_of, own_aliases, total_bytes, tracker_of
from parallel.estimators.operators import OperationCounter


def trace_passes(
    model: nn.Module, inputs: tuple[Any, ...], run: Callable[[Callable[[str], None]], None]
) -> tuple[Passes, Operations]:
    """Run passes under the memory tracker, and list their operators.

    Args:
        model: its blocks in `layers`; of fewer than four none is in the middle. Its parameters and gradients are
            counted.
        inputs: what it is fed, counted as inputs.
        run: one forward pass, and a backward pass where there should be one; calls what it is given with the name of
            each when it starts.
    """
    tracker, counter = tracker_of(model, inputs), OperationCounter()
    blocks = list(model.get_submodule("layers").children())
    with own_aliases(model), tracker, _edges(blocks, counter) as edges, counter:
        before = tracker.get_tracker_snapshot()
        run(counter.start)
        peak = tracker.get_tracker_snapshot("peak")
    marks = [marks_of(tracker.memory_tracking[block]) for block in blocks]
    entry = "BEF_PRE_FW" if isinstance(model, FSDPModule) else "PRE_FW"

    def highest(mark: str) -> tuple[Memory, ...]:
        return tuple(memory_of(max(each[mark], key=total_bytes)) for each in marks if mark in each)

    operations = counter.operations()
    middle = [operations[start:end] for start, end in edges.middle()]
    return Passes(
        before=memory_of(kinds_of(before)),
        peak=memory_of(kinds_of(peak)),
        entering=tuple(memory_of(each[entry][0]) for each in marks),
        forward=highest("PEAK_FW"),
        backward=highest("PEAK_BW"),
    ), Operations(all=operations, block=tuple(chain(*middle)))


class _Edges:
    """Where among the operators each block begins in the forward pass, and is done with in the backward pass."""

    def __init__(self, counter: OperationCounter) -> None:
        self._counter = counter
        self._begins: list[int] = []
        self._ends: list[int] = []

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Mark the block's beginning, and its end when its input has a gradient."""
        self._begins.append(self._counter.count)
        tokens = max((x for x in inputs if isinstance(x, Tensor) and x.requires_grad), key=Tensor.numel, default=None)
        if tokens is not None:
            tokens.register_hook(lambda _: self._ends.append(self._counter.count))

    def middle(self) -> list[tuple[int, int]]:
        """First and last operator of what lies between two blocks in the middle, in each pass.

        The last block is not like the others, and its gradients are scattered while the one before it is under way.
        """
        if len(self._begins) < 4:
            return []
        spans = [(self._begins[1], self._begins[2])]
        return spans + ([(self._ends[-3], self._ends[-2])] if self._ends else [])


@contextmanager
def _edges(blocks: list[nn.Module], counter: OperationCounter) -> Generator[_Edges]:
    edges = _Edges(counter)
    handles = [block.register_forward_pre_hook(edges.enter) for block in blocks]
    try:
        yield edges
    finally:
        for handle in handles:
            handle.remove()


def trace_update(model: nn.Module, kept: tuple[Tensor, ...], run: Callable[[], None]) -> tuple[int, Operations]:
    """The most bytes above what was there before, and the operators, of what is no pass through the model.

    Args:
        model: whose parameters are there before.
        kept: what else is: gradients, the optimiser's state, averaged weights.
        run: clipping and an optimiser's step, for one.
    """
    tracker, counter = tracker_of(model, kept), OperationCounter()
    with tracker, counter:
        before = total_bytes(kinds_of(tracker.get_tracker_snapshot()))
        counter.start("update")
        run()
        peak = total_bytes(kinds_of(tracker.get_tracker_snapshot("peak")))
    return peak - before, Operations(all=counter.operations())
