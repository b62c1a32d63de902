"""Bytes of tensors by kind, as torch's memory trackers find them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_iter, tree_map_only

from parallel.costs import Memory


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


def memory_of(kinds: Mapping[Any, int]) -> Memory:
    """The bytes of a snapshot of one device, by the kinds that there are here."""
    sums: dict[str, int] = {}
    for kind, size in kinds.items():
        name = getattr(kind, "value", kind)
        if name != "Total":
            sums[KINDS[name]] = sums.get(KINDS[name], 0) + size
    return Memory(**sums)


def tracker_of(model: nn.Module, inputs: tuple[Any, ...]) -> MemTracker:
    """The memory tracker for a model, sharded or not.

    Args:
        model: its parameters and gradients are counted.
        inputs: what else is there before; counted as inputs.
    """
    if isinstance(model, FSDPModule):
        sharded = FSDPMemTracker(model)
        sharded.track_inputs(inputs)
        return sharded
    tracker = MemTracker()
    tracker.track_external(model, *(x for x in tree_iter(inputs) if isinstance(x, Tensor)))
    return tracker


def marks_of(stat: Any) -> dict[str, list[Mapping[Any, int]]]:
    """The snapshots of one module in the passes, by the name of the moment."""
    return {state.name: [kinds_of(snapshot) for snapshot in snapshots] for state, snapshots in stat.snapshots.items()}


def kinds_of(snapshot: Mapping[torch.device, Mapping[Any, int]]) -> Mapping[Any, int]:
    """Kinds over all devices; a world of one device has one."""
    (kinds,) = snapshot.values()
    return kinds


def total_bytes(kinds: Mapping[Any, int]) -> int:
    """Bytes of all kinds."""
    return kinds["Total"]


def local_bytes(tensor: Tensor) -> int:
    """Bytes of this process's part of a tensor, with the padding that makes parts even.

    Args:
        tensor: a DTensor or a plain tensor.
    """
    local = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
    return local.untyped_storage().nbytes()
