"""Initial weights that do not depend on the layout: each parameter from a generator named by seed and parameter.

adaLN-zero as in DiT (Peebles and Xie 2023): modulations and the output projection start at zero, so that the model
gives exactly zero at first; other matrices are Xavier-uniform, the embedders of time, pooled text and sizes normal
with standard deviation 0.02, biases zero, norms one. The second matrix of the embedder of sizes is zero too: at first a
model with it computes what one without it does.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from parallel.shards import assign
from parallel.titan import canonical_fqn
from prx_scale.models.mup import Parametrisation


def initialise(model: nn.Module, seed: int, positions: Tensor, parametrisation: Parametrisation) -> None:
    """Set every parameter of an MM-DiT.

    Args:
        model: on its device, sharded or not.
        seed: of the run.
        positions: (R, C, D) sinusoids, from which a trained table of positions starts.
        parametrisation: says by which factor initial values differ from the usual ones.
    """
    for name, parameter in model.named_parameters():
        name = canonical_fqn(name)
        value = positions if name == "position_table.weight" else initial_value(name, parameter.shape, seed)
        factor = parametrisation.init_std(name, parameter.shape)
        assign(parameter, value if factor == 1 else value * factor)


def initial_value(name: str, shape: torch.Size, seed: int) -> Tensor:
    """The initial value of one parameter.

    Args:
        name: its full name in the model.
        shape: its whole shape.
        seed: of the run.

    Returns:
        The whole tensor, float32, on the CPU.
    """
    parts = name.split(".")
    value = torch.zeros(shape)
    if parts[-1] == "bias" or "ada" in parts or parts[:2] in (["final", "linear"], ["size_embed", "second"]):
        return value
    if parts[-2] in ("q_norm", "k_norm"):
        return value.fill_(1)
    generator = torch.Generator().manual_seed(_key(name, seed))
    if parts[0] in ("time_embed", "pooled_embed", "size_embed"):
        return value.normal_(std=0.02, generator=generator)
    return nn.init.xavier_uniform_(value, generator=generator)


def _key(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
