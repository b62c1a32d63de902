"""FLOPs of an operator, by the formulas of torch's counter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def _cpu_attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _cpu_attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
}
"""The CPU's fused attention, which torch's FLOP counter does not know; counted like the GPU's."""


def flops_of(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """FLOPs of a call of an operator; 0 where it is no product.

    Args:
        func: the overload.
        args: that it was called with.
        kwargs: by name.
        result: what it gave.
    """
    packet = func._overloadpacket
    if packet in ATTENTION:
        return ATTENTION[packet](*args, **kwargs)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    return 0
