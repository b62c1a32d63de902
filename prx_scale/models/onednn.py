"""Matrix products through oneDNN where torch would use MKL or its own attention, on processors where that is quicker.

torch multiplies float32 matrices on the CPU by MKL, which on other makers' processors leaves out AVX-512: oneDNN does
about twice as many products a second there. And torch's attention multiplies bfloat16 in small blocks, where a product
over all of a head's tokens at once is quicker on processors that have bfloat16 products but no AMX tiles.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from parallel.host import processor_flags, processor_maker

ATTENTION_TOKENS = range(192, 1025)
"""Between them one head's logits are large enough to be worth a call each, and small enough to stay in cache."""


_switch = True


@contextmanager
def switched(on: bool) -> Generator[None]:
    """While it lasts, nothing here is used where it is off, so that both can be measured."""
    global _switch
    before, _switch = _switch, on
    try:
        yield
    finally:
        _switch = before


def available() -> bool:
    """Whether torch has oneDNN with this operation."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


# Read once, here: the compiler cannot trace the reading of a file.
_FLAGS = processor_flags() if available() else frozenset[str]()
_OTHER_MAKER_WITH_AVX512 = "avx512f" in _FLAGS and processor_maker() != "GenuineIntel"
_BFLOAT16_WITHOUT_TILES = "avx512_bf16" in _FLAGS and "amx_tile" not in _FLAGS


def linear_is_quicker() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than what torch uses."""
    return _switch and _OTHER_MAKER_WITH_AVX512


def attention_is_quicker(tokens: int) -> bool:
    """Whether bfloat16 attention over so many tokens is faster by whole heads than by torch's blocks."""
    return _switch and tokens in ATTENTION_TOKENS and _BFLOAT16_WITHOUT_TILES


@torch.library.custom_op("prx_scale::product", mutates_args=())
def _opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """For compiled code: inductor takes oneDNN's operation for one with packed, constant weights."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b without gradient; x (..., K) and weight (N, K) of any strides."""
    if torch.compiler.is_compiling():
        return _opaque(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, float32.

    Args:
        x: (..., K).
        weight: (N, K).
        bias: (N,) or None.
    """
    return _apply(Linear, x, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q k^T scale) v, bfloat16 with logits in float32.

    Args:
        q: (B, H, L, K).
        k: (B, H, N, K).
        v: (B, H, N, K).
        scale: of the logits.
    """
    return _apply(Attention, q, k, v, scale)


def _apply(function: Any, *arguments: Any) -> Tensor:
    return function.apply(*arguments)


class Linear(torch.autograd.Function):
    """A linear layer whose three products all go through oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, weight.shape[0])
        return (
            product(gradient, weight.t()) if wants_x else None,
            product(rows.t(), x.reshape(-1, weight.shape[1]).t()) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


class Attention(torch.autograd.Function):
    """Attention head by head: one head's logits are in memory at a time, made again in the backward pass.

    With P = softmax(S), S = scale q k^T and output o: dv = P^T g, dS = P * (g v^T - rowsum(g * o)),
    dq = scale dS k, dk = scale dS^T q (Dao et al. 2022, appendix B). S, P and g v^T are float32; P and dS are rounded
    to bfloat16 for their products, as torch's own attention does.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        # Laid out by token, as the linear layer that follows reads it.
        out = torch.empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3], dtype=q.dtype).transpose(1, 2)
        queries, keys = _heads(q, scale), _heads(k)
        values = v.flatten(0, 1)
        for i, each in enumerate(_views(out)):
            each.copy_(torch.mm(_weights(queries[i], keys[i]).to(v.dtype), values[i]))
        ctx.save_for_backward(q, k, v, out)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, out = ctx.saved_tensors
        inner = (gradient * out).sum(-1, keepdim=True, dtype=torch.float32).flatten(0, 1)
        queries, keys, values, upstream = _heads(q, ctx.scale), _heads(k), _heads(v), _heads(gradient)
        q3, k3, g3 = (each.flatten(0, 1) for each in (q, k, gradient))
        dq, dk, dv = (torch.empty(each.shape, dtype=each.dtype) for each in (q, k, v))
        for i, (its_dq, its_dk, its_dv) in enumerate(zip(_views(dq), _views(dk), _views(dv), strict=True)):
            weights = _weights(queries[i], keys[i])
            torch.mm(weights.to(v.dtype).t(), g3[i], out=its_dv)
            slope = product(upstream[i], values[i]).sub_(inner[i]).mul_(weights).mul_(ctx.scale).to(q.dtype)
            torch.mm(slope, k3[i], out=its_dq)
            torch.mm(slope.t(), q3[i], out=its_dk)
        return dq, dk, dv, None


def _heads(x: Tensor, factor: float = 1) -> Tensor:
    """(B, H, N, K) -> (B H, N, K) in float32."""
    exact = x.contiguous().float()
    return (exact.mul_(factor) if factor != 1 else exact).flatten(0, 1)


def _views(x: Tensor) -> list[Tensor]:
    """The heads of (B, H, N, K), each an (N, K) view."""
    return [head for image in x.unbind() for head in image.unbind()]


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(product(query, key), dim=-1)


if available():

    @register_flop_formula([torch.ops.mkldnn._linear_pointwise, torch.ops.prx_scale.product])
    def _flops(x_shape: Any, weight_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        rows = 1
        for size in x_shape[:-1]:
            rows *= size
        return 2 * rows * weight_shape[0] * weight_shape[1]
