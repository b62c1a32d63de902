"""Aliases for the memory trackers change nothing."""

from __future__ import annotations

import torch
from torch import nn

from parallel.estimators.memory import own_aliases


def test_aliases_leave_inputs_and_gradients_as_they_are() -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3, requires_grad=True)
    with own_aliases(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, layer.weight.sum(0).expand(4, 3))
