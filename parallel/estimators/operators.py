"""The operators that run: what each computes, moves and sends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count, groupby
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch._guards import active_fake_mode
from torch.distributed._tools.fake_collectives import CollectiveOp, collective_ops, sync_ops
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from parallel.costs import Operation
from parallel.estimators.flops import flops_of

UNTOUCHED = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "detach"})
"""Operators that make tensors without reading or writing one."""


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
        flops = flops_of(func, args, kwargs, result)
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


def _collective(phase: str, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> Operation:
    group = CollectiveOp.get_process_group(func, args)
    sizes = [x.numel() * x.element_size() for x in tree_iter((args, kwargs, result)) if isinstance(x, Tensor)]
    ranks = tuple(dist.get_process_group_ranks(group))
    return Operation(phase=phase, name=name, group=ranks, sent=max(sizes, default=0))
