"""The primitives of a block, each with the quickest exact form that this processor is known to have.

Each public function is its plain formula on an accelerator, under `torch.compile` (inductor fuses by itself; only the
product of matrices is not left to it), for DTensors, fake tensors and whatever else is not a plain tensor, and under
autocast. On a CPU it may take a form of its own that computes the same function; docs/performance.md says what each
one gave, and what was tried and dropped.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from prx_scale.models import onednn

EPS = 1e-6
"""Of every layer norm and RMS norm."""
SLICE = 1 << 16
"""Values that element-wise work takes at once: few enough to stay in a core's own cache."""
LEAST_VALUES, LEAST_PRODUCTS = 1 << 16, 1 << 22
"""Below so many values, or multiply-adds, the calls of a form of its own cost more than it saves."""
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
GELU_CUBE = 0.044715 * GELU_SLOPE
"""Coefficients of x and x^3 inside the sigmoid."""


def modulate(x_BLD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """adaLN: LN(x) (1 + scale) + shift, with a layer norm that has no weights of its own (Peebles and Xie 2023).

    Args:
        x_BLD: tokens.
        shift_BD: per image.
        scale_BD: per image.
    """
    normed = F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=EPS)
    return torch.addcmul(shift_BD.unsqueeze(1), normed, 1 + scale_BD.unsqueeze(1))


def gated(x_BLD: Tensor, gate_BD: Tensor, update_BLD: Tensor, multiplier: float = 1.0) -> Tensor:
    """x + multiplier * gate * update: a residual that adaLN-zero lets grow from nothing.

    Args:
        x_BLD: tokens.
        gate_BD: per image.
        update_BLD: what a layer adds.
        multiplier: of every residual branch, which depth-muP sets.
    """
    return torch.addcmul(x_BLD, gate_BD.unsqueeze(1), update_BLD, value=multiplier)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b.

    Args:
        x: (..., K).
        weight: (N, K).
        bias: (N,) or None.

    Returns:
        (..., N).
    """
    large = x.numel() * weight.shape[0] >= LEAST_PRODUCTS
    if large and _ordinary(x, weight, bias) and x.dtype == weight.dtype == torch.float32 and onednn.linear_is_quicker():
        return onednn.linear(x, weight, bias)
    return F.linear(x, weight, bias)


def gelu(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), equal to x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)).

    Args:
        x: of any shape.
    """
    if x.numel() >= LEAST_VALUES and _plain(x) and _learns(x) and x.is_contiguous():
        return _apply(Gelu, x)
    return F.gelu(x, approximate="tanh")


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019).

    Args:
        x: (..., K).
        weight: (K,).
    """
    if x.numel() >= LEAST_VALUES and _plain(x, weight) and x.dtype == weight.dtype and _learns(x):
        return _apply(RmsNorm, x, weight)
    return F.rms_norm(x, weight.shape, weight, EPS)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T scale) v, over the keys that are visible.

    Args:
        q: (B, H, L, K).
        k: (B, H, N, K).
        v: (B, H, N, K).
        scale: of the logits.
        mask: (B, 1, 1, N), true at visible keys; None where all are.

    Returns:
        (B, H, L, K).
    """
    if mask is not None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    if _plain(q, k, v) and q.dtype == k.dtype == v.dtype == torch.bfloat16 and onednn.attention_is_quicker(k.shape[2]):
        return onednn.attention(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def _plain(*tensors: Tensor | None) -> bool:
    """Whether all are ordinary and nothing is being compiled."""
    return not torch.compiler.is_compiling() and _ordinary(*tensors)


def _ordinary(*tensors: Tensor | None) -> bool:
    """Whether all are plain tensors on the CPU with nothing between them and their kernels."""
    if torch.is_autocast_enabled("cpu"):
        return False
    for tensor in tensors:
        if tensor is not None and (type(tensor) not in (Tensor, nn.Parameter) or tensor.device.type != "cpu"):
            return False
    return True


def _learns(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _apply(function: Any, *arguments: Any) -> Tensor:
    return function.apply(*arguments)


class Gelu(torch.autograd.Function):
    """GELU that keeps its derivative instead of its input, both of which come from one sigmoid.

    With w = 2 sqrt(2/pi) (x + 0.044715 x^3) and s = sigmoid(w), the value is x s and the derivative
    s (1 + x w' (1 - s)), w' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value, slope = torch.empty_like(x), torch.empty_like(x)
        flats = (each.view(-1).split(SLICE) for each in (x, value, slope))
        for part, its_value, its_slope in zip(*flats, strict=True):
            exact = part.float() if part.dtype == torch.bfloat16 else part
            square = exact * exact
            s = (square * GELU_CUBE).add_(GELU_SLOPE).mul_(exact).sigmoid_()
            square.mul_(3 * GELU_CUBE).add_(GELU_SLOPE).mul_(exact)
            its_slope.copy_(square.addcmul_(square, s, value=-1).add_(1).mul_(s))
            its_value.copy_(s.mul_(exact))
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = ctx.saved_tensors
        return gradient * slope


class RmsNorm(torch.autograd.Function):
    """RMS norm that keeps its input and one factor a row.

    With r = (mean(x^2) + eps)^(-1/2) and h = g * weight, the gradient is r (h - x r^2 mean(h x)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        factor = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        if x.dtype == exact:
            return (x * factor).mul_(weight)
        return (x * factor).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, factor = ctx.saved_tensors
        normed, exact_weight = x * factor, weight.to(factor.dtype)
        rows = (gradient * normed).flatten(0, -2)
        mean = torch.mv(rows, exact_weight).div_(x.shape[-1]).view_as(factor)
        result = (gradient * exact_weight).sub_(normed.mul_(mean)).mul_(factor)
        return result.to(x.dtype), rows.sum(0).to(weight.dtype)
