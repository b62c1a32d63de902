"""The adapter to torch's private tools: names are there, operators are counted right, a fake world is left clean."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.distributed as dist
from torch import nn

from parallel.estimators import OperationCounter, fake_tensors, fake_world, own_aliases

PRIVATE = {
    "torch._guards": ["active_fake_mode"],
    "torch._subclasses.fake_tensor": ["FakeTensorMode"],
    "torch.distributed._tools.fake_collectives": ["CollectiveOp", "collective_ops", "sync_ops"],
    "torch.distributed._tools.fsdp2_mem_tracker": ["FSDPMemTracker"],
    "torch.distributed._tools.mem_tracker": ["MemTracker"],
    "torch.nn.modules.module": ["register_module_forward_pre_hook"],
    "torch.utils._python_dispatch": ["TorchDispatchMode"],
    "torch.utils._pytree": ["tree_iter", "tree_map_only"],
    "torch.utils.flop_counter": ["flop_registry", "sdpa_flop_count", "sdpa_backward_flop_count"],
    "torch.utils.weak": ["WeakIdKeyDictionary"],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in PRIVATE.items() for name in names])
def test_the_private_names_of_torch_are_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_a_fake_world_has_its_size_and_leaves_none_behind() -> None:
    with fake_world(96):
        assert dist.get_world_size() == 96
        with pytest.raises(RuntimeError, match="process of its own"), fake_world(2):
            pass
    assert not dist.is_initialized()


def test_products_count_their_flops_and_their_bytes() -> None:
    counter = OperationCounter()
    with fake_tensors(), counter:
        a, b = torch.empty(30, 50), torch.empty(50, 70)
        counter.start("forward")
        (a @ b).t()
    (product,) = counter.operations()
    assert product.flops == 2 * 30 * 50 * 70
    assert product.moved == 4 * (30 * 50 + 50 * 70 + 30 * 70)
    assert product.phase == "forward"


def test_neighbours_without_products_move_less_when_fused() -> None:
    counter = OperationCounter()
    with fake_tensors(), counter:
        x = torch.empty(1000)
        (x + 1).relu().exp_()
    operations = counter.operations()
    assert sum(each.moved for each in operations) == 4 * 1000 * 6  # each reads a tensor and writes one
    assert sum(each.fused for each in operations) == 4 * 1000 * 2


def test_attention_counts_as_on_a_gpu() -> None:
    counter = OperationCounter()
    batch, heads, tokens, width = 2, 3, 40, 64
    with fake_tensors(), counter:
        q, k, v = (torch.empty(batch, heads, tokens, width, requires_grad=True) for _ in range(3))
        nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    forward, backward = [each.flops for each in counter.operations() if each.flops]
    assert forward == 4 * batch * heads * tokens**2 * width
    assert backward == 2.5 * forward  # the scores are computed again


def test_aliases_leave_inputs_and_gradients_as_they_are() -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3, requires_grad=True)
    with own_aliases(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, layer.weight.sum(0).expand(4, 3))
