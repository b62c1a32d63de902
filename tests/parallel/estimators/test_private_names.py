"""The private names of torch that the estimators touch are there."""

from __future__ import annotations

import importlib

import pytest

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
