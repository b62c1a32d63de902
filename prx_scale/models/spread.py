"""How an MM-DiT is shared out: which style of tensor, sequence and context parallelism each of its modules has."""

from __future__ import annotations

from torch import nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, SequenceParallel

from parallel.tensor import (
    GatherTokens,
    OwnTokens,
    Plan,
    SumGradients,
    WholeParameters,
    enter,
    join_tokens,
    split_tokens,
)

HEADS = 2
"""The dimension of (B, L, H, K) queries and keys that has the heads."""


def tensor_plan(model: nn.Module, *, sequence: bool) -> Plan:
    """Tensor parallelism: heads and MLP width are shared out, in every stream.

    Queries, keys, values and the first MLP matrix are split by columns, the matrices after them by rows; modulations
    and embedders are computed in parts and gathered. With sequence parallelism the image tokens between products are
    shared out too, as they are many; text tokens, 154 of them, stay whole.

    Args:
        model: an MM-DiT.
        sequence: share out image tokens; their number must divide.
    """
    plan = {name: _outer_style(name) for name, _ in model.named_modules()}
    for number, block in model.get_submodule("layers").named_children():
        for stream, module in block.named_children():
            shared = sequence and stream == "image"
            for leaf, _ in module.named_children():
                plan[f"layers.{number}.{stream}.{leaf}"] = _stream_style(leaf, shared=shared)
    if sequence:
        plan |= {"split_sequence": split_tokens(), "join_sequence": join_tokens()}
    return {name: style for name, style in plan.items() if style is not None}


def context_plan(model: nn.Module) -> Plan:
    """Context parallelism: each process has its part of the image tokens, and all of the text.

    Queries stay where they are; keys and values of image tokens are gathered in every block.

    Args:
        model: an MM-DiT.
    """
    plan: Plan = {"split_context": OwnTokens(), "join_context": join_tokens()}
    for number, _ in model.get_submodule("layers").named_children():
        plan[f"layers.{number}.image_keys"] = GatherTokens()
    return plan


def _outer_style(name: str) -> ParallelStyle | None:
    match name:
        case "patch_embed" | "context_embed" | "final.ada":
            return ColwiseParallel(output_layouts=Replicate())
        case "time_embed.first" | "pooled_embed.first" | "size_embed.first":
            return ColwiseParallel()
        case "time_embed.second" | "pooled_embed.second" | "size_embed.second":
            return RowwiseParallel()
        case "final.linear":  # its outputs, the values of a patch, need not divide
            return RowwiseParallel(input_layouts=Replicate())
        case "position_table":
            return WholeParameters()
    return None


def _stream_style(leaf: str, *, shared: bool) -> ParallelStyle | None:
    match leaf:
        case "q" | "k" | "v" | "mlp_in":
            return ColwiseParallel(input_layouts=Replicate())
        case "out" | "mlp_out":
            return RowwiseParallel(output_layouts=Shard(1) if shared else Replicate())
        case "ada":
            return ColwiseParallel(output_layouts=Replicate())
        case "q_norm" | "k_norm":  # their weights serve all heads
            return SequenceParallel(sequence_dim=HEADS, use_local_output=True)
        case "enter_attention" | "enter_mlp":
            return enter(shared=shared)
        case "leave_modulation":
            return SumGradients() if shared else None
    return None
