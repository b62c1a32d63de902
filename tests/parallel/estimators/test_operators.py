"""Operators are counted right: their FLOPs, and the bytes that they move."""

from __future__ import annotations

import torch
from torch import nn

from parallel.estimators.fakes import fake_tensors
from parallel.estimators.operators import OperationCounter


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
