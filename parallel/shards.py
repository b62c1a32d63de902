"""Plain tensors in and out of sharded parameters, the same for every layout."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds.

    Args:
        tensor: a DTensor or a plain tensor.

    Returns:
        The local shard, or the tensor itself.
    """
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(target: torch.Tensor, value: torch.Tensor) -> None:
    """Write a whole tensor into a parameter of any layout; each process keeps its own part, without communication.

    Args:
        target: the parameter, sharded or not.
        value: the whole tensor, equal on every process, shape of the whole parameter.
    """
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)


def reshard(model: nn.Module) -> None:
    """Free what FSDP2 has gathered: a forward pass without a backward pass leaves some blocks whole.

    Args:
        model: sharded or not.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
