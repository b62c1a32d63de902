"""Memory and operations of a training step that is not run: torch's own trackers, on fake tensors and a fake world.

The one place that touches the private parts of torch that this needs: the memory trackers of
`torch.distributed._tools`, fake tensors, the fake process group, the formulas of the FLOP counter, and how a
collective names its group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count, groupby
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fake_collectives import CollectiveOp, collective_ops, sync_ops
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from parallel.costs import Memory, Operation, Operations, Passes
from parallel.titan import set_spmd_backend

aten = torch.ops.aten


@contextmanager
def fake_world(processes: int) -> Generator[None]:
    """This process as rank 0 of a world whose collectives do nothing.

    Args:
        processes: in the world.

    Raises:
        RuntimeError: this process is part of a world already.
    """
    if dist.is_initialized():
        raise RuntimeError("a process group is in use; a fake world needs a process of its own")
    # It advises on how collectives could be faster, which is not asked here.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    dist.init_process_group("fake", rank=0, world_size=processes)
    set_spmd_backend("partial_dtensor")
    try:
        yield
    finally:
        dist.destroy_process_group()


def fake_tensors() -> FakeTensorMode:
    """Tensors made while it lasts have sizes and no memory. Parameters on the meta device may be used in it."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def own_aliases(model: nn.Module) -> Generator[None]:
    """Give every module of a model aliases of its input tensors.

    The trackers learn that a module's backward pass is over when all its inputs have their gradients, and hold these
    until then. A condition that all blocks take has its gradient last of all, so the gradients of every block's tokens
    would be held to the end and counted as memory, which they are not where no tracker is.

    Args:
        model: its modules' tensor arguments are aliased.
    """
    modules = set(model.modules())

    def alias(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if module not in modules:
            return None
        return tree_map_only(Tensor, lambda x: x.view_as(x) if x.requires_grad else x, inputs)

    handle = register_module_forward_pre_hook(alias)  # pyright: ignore[reportArgumentType]  # may replace inputs
    try:
        yield
    finally:
        handle.remove()


KINDS = {
    "Parameter": "parameters",
    "Sharded Param": "parameters",
    "Gradient": "gradients",
    "Sharded Grad": "gradients",
    "OptState": "activations",
    "Optstate": "activations",
    "Activation": "activations",
    "Temp": "activations",
    "Inputs": "inputs",
    "Buffer": "inputs",
    "Other": "inputs",
    "Unsharded Param": "communication",
    "Unsharded Grad": "communication",
    "All Gather": "communication",
    "Reduce Scatter": "communication",
}
"""The trackers' kinds of tensors, and what they are called here."""


def _memory(kinds: Mapping[Any, int]) -> Memory:
    sums: dict[str, int] = {}
    for kind, size in kinds.items():
        name = getattr(kind, "value", kind)
        if name != "Total":
            sums[KINDS[name]] = sums.get(KINDS[name], 0) + size
    return Memory(**sums)


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
    tracker, counter = _tracker(model, inputs), OperationCounter()
    blocks = list(model.get_submodule("layers").children())
    with own_aliases(model), tracker, _edges(blocks, counter) as edges, counter:
        before = tracker.get_tracker_snapshot()
        run(counter.start)
        peak = tracker.get_tracker_snapshot("peak")
    marks = [_marks(tracker.memory_tracking[block]) for block in blocks]
    entry = "BEF_PRE_FW" if isinstance(model, FSDPModule) else "PRE_FW"

    def highest(mark: str) -> tuple[Memory, ...]:
        return tuple(_memory(max(each[mark], key=_total)) for each in marks if mark in each)

    operations = counter.operations()
    middle = [operations[start:end] for start, end in edges.middle()]
    return Passes(
        before=_memory(_only(before)),
        peak=_memory(_only(peak)),
        entering=tuple(_memory(each[entry][0]) for each in marks),
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


def _marks(stat: Any) -> dict[str, list[Mapping[Any, int]]]:
    return {state.name: [_only(snapshot) for snapshot in snapshots] for state, snapshots in stat.snapshots.items()}


def trace_update(model: nn.Module, kept: tuple[Tensor, ...], run: Callable[[], None]) -> tuple[int, Operations]:
    """The most bytes above what was there before, and the operators, of what is no pass through the model.

    Args:
        model: whose parameters are there before.
        kept: what else is: gradients, the optimiser's state, averaged weights.
        run: clipping and an optimiser's step, for one.
    """
    tracker, counter = _tracker(model, kept), OperationCounter()
    with tracker, counter:
        before = _total(_only(tracker.get_tracker_snapshot()))
        counter.start("update")
        run()
        peak = _total(_only(tracker.get_tracker_snapshot("peak")))
    return peak - before, Operations(all=counter.operations())


def _tracker(model: nn.Module, inputs: tuple[Any, ...]) -> MemTracker:
    if isinstance(model, FSDPModule):
        sharded = FSDPMemTracker(model)
        sharded.track_inputs(inputs)
        return sharded
    tracker = MemTracker()
    tracker.track_external(model, *(x for x in tree_iter(inputs) if isinstance(x, Tensor)))
    return tracker


def _only(snapshot: Mapping[torch.device, Mapping[Any, int]]) -> Mapping[Any, int]:
    """Kinds over all devices; a world of one device has one."""
    (kinds,) = snapshot.values()
    return kinds


def _total(kinds: Mapping[Any, int]) -> int:
    return kinds["Total"]


def local_bytes(tensor: Tensor) -> int:
    """Bytes of this process's part of a tensor, with the padding that makes parts even.

    Args:
        tensor: a DTensor or a plain tensor.
    """
    local = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
    return local.untyped_storage().nbytes()


@dataclass(frozen=True, kw_only=True)
class _Touched:
    """What an operator reads and writes: bytes by number of the storage."""

    read: dict[int, int]
    written: dict[int, int]


class OperationCounter(TorchDispatchMode):
    """Lists the operators that run while it lasts."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""
        self._operations: list[tuple[Operation, _Touched]] = []
        self._numbers = WeakIdKeyDictionary()
        self._next = count()

    @property
    def count(self) -> int:
        """Operators so far."""
        return len(self._operations)

    def start(self, phase: str) -> None:
        """From now on operators belong to this phase."""
        self._phase = phase

    def __enter__(self) -> OperationCounter:
        self._mode = active_fake_mode()
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and note it unless it only decides on DTensor's layouts."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        if active_fake_mode() is self._mode and func not in sync_ops:
            self._note(func, args, kwargs or {}, result)
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = func._overloadpacket.__name__
        if func in collective_ops:
            sent = _collective(self._phase, name, func, args, kwargs, result)
            self._operations.append((sent, _Touched(read={}, written={})))
            return
        touched = self._touched(func, (args, kwargs), result)
        moved = sum(touched.read.values()) + sum(touched.written.values())
        flops = _flops(func, args, kwargs, result)
        if name not in UNTOUCHED and (touched.written or flops):
            self._operations.append((Operation(phase=self._phase, name=name, flops=flops, moved=moved), touched))

    def _touched(self, func: Any, inputs: Any, result: Any) -> _Touched:
        """Nothing is written where an operator only gives another view of its input."""
        read = self._storages(inputs)
        new = {key: size for key, size in self._storages(result).items() if key not in read}
        return _Touched(read=read, written=new | self._storages(_mutated(func, inputs)))

    def _storages(self, tensors: Any) -> dict[int, int]:
        """Bytes of the distinct tensors by storage; a view counts for its own elements."""
        found: dict[int, int] = {}
        for tensor in tree_iter(tensors):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                number = self._numbers.get(storage)
                if number is None:
                    number = self._numbers[storage] = next(self._next)
                found[number] = found.get(number, 0) + _elements(tensor) * tensor.element_size()
        return found

    def operations(self) -> tuple[Operation, ...]:
        """What ran, in order."""
        uses: dict[int, int] = {}
        for index, (_, touched) in enumerate(self._operations):
            uses |= dict.fromkeys(touched.read, index)
        found: list[Operation] = []
        start = 0
        for whole, group in groupby(self._operations, key=lambda each: bool(each[0].flops or each[0].group)):
            members = list(group)
            end = start + len(members)
            first = members[0][0] if whole else replace(members[0][0], fused=_fused(members, uses, end))
            found += [first, *(operation for operation, _ in members[1:])]
            start = end
        return tuple(found)


def _fused(members: list[tuple[Operation, _Touched]], uses: dict[int, int], end: int) -> int:
    """Bytes in and out of a group of neighbours, where what they hand each other stays in registers.

    Args:
        members: operators without products, one after the other.
        uses: the last operator that reads each storage.
        end: of the group, the number of the operator that follows.
    """
    read: dict[int, int] = {}
    written: dict[int, tuple[int, int]] = {}
    for index, (_, touched) in enumerate(members, start=end - len(members)):
        for number, size in touched.read.items():
            if number not in written:
                read[number] = max(read.get(number, 0), size)
        written |= {number: (index, size) for number, size in touched.written.items()}
    # What is read again in the group alone never leaves it; what nothing reads any more is a result.
    inner = {number for number, (index, _) in written.items() if index < uses.get(number, -1) < end}
    return sum(read.values()) + sum(size for number, (_, size) in written.items() if number not in inner)


UNTOUCHED = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "detach"})
"""Operators that make tensors without reading or writing one."""


def _elements(tensor: Tensor) -> int:
    """Elements in memory: those of an expanded axis are the same one."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count


def _mutated(func: Any, inputs: Any) -> list[Any]:
    args, kwargs = inputs
    arguments = func._schema.arguments
    named = [(each, args[i] if i < len(args) else kwargs.get(each.name)) for i, each in enumerate(arguments)]
    return [value for each, value in named if each.alias_info is not None and each.alias_info.is_write]


def _cpu_attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _cpu_attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
}
"""The CPU's fused attention, which torch's FLOP counter does not know; counted like the GPU's."""


def _flops(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    packet = func._overloadpacket
    if packet in ATTENTION:
        return ATTENTION[packet](*args, **kwargs)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    return 0


def _collective(phase: str, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> Operation:
    group = CollectiveOp.get_process_group(func, args)
    sizes = [x.numel() * x.element_size() for x in tree_iter((args, kwargs, result)) if isinstance(x, Tensor)]
    ranks = tuple(dist.get_process_group_ranks(group))
    return Operation(phase=phase, name=name, group=ranks, sent=max(sizes, default=0))
