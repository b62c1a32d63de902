"""The layers around the blocks, and those that blocks are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parallel.titan import Linear as _Linear
from parallel.titan import Module
from parallel.titan import RMSNorm as _RMSNorm
from prx_scale.models import functional
from prx_scale.models.embeddings import centre_crop
from prx_scale.models.functional import modulate


class Linear(_Linear):
    """TorchTitan's linear layer with this project's product."""

    @dataclass(kw_only=True, slots=True)
    class Config(_Linear.Config):
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return functional.linear(input, self.weight, self.bias)


def linear_config(inputs: int, outputs: int) -> Linear.Config:
    """A linear layer with a bias.

    Args:
        inputs: K.
        outputs: N.
    """
    return Linear.Config(in_features=inputs, out_features=outputs, bias=True)


class RMSNorm(_RMSNorm):
    """TorchTitan's RMS norm in this project's form."""

    @dataclass(kw_only=True, slots=True)
    class Config(_RMSNorm.Config):
        pass

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., K)."""
        return functional.rms_norm(x, self.weight)


class Boundary(Module):
    """Hands on what it is given. Where activations change hands between processes, a plan gives it something to do."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        pass

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()

    def forward(self, *tensors: Any) -> Any:
        """What came in: a tensor, or a tuple of several."""
        return tensors[0] if len(tensors) == 1 else tensors


class PositionTable(Module):
    """A trained position for each place of the grid."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        side: int
        width: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.side, config.side, config.width))

    def forward(self, rows: int, columns: int) -> Tensor:
        """(rows * columns, D) positions of an image of that many patches."""
        return centre_crop(self.weight, rows, columns)


class Embedder(Module):
    """Linear, SiLU, Linear: brings a condition to the hidden width."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        first: Linear.Config
        second: Linear.Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first, self.second = config.first.build(), config.second.build()

    def forward(self, x: Tensor) -> Tensor:
        """(B, any) -> (B, D)."""
        return self.second(F.silu(self.first(x)))


def embedder_config(inputs: int, outputs: int) -> Embedder.Config:
    """An embedder.

    Args:
        inputs: width of the condition.
        outputs: D.
    """
    return Embedder.Config(first=linear_config(inputs, outputs), second=linear_config(outputs, outputs))


class FinalLayer(Module):
    """Modulated layer norm and the projection to patches."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        ada: Linear.Config
        linear: Linear.Config
        input_multiplier: float = 1.0
        """Of what the projection reads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_multiplier = config.input_multiplier
        self.ada, self.linear = config.ada.build(), config.linear.build()

    def forward(self, x_BLD: Tensor, c_BD: Tensor) -> Tensor:
        """(B, L, D) and (B, D) -> (B, L, P)."""
        shift, scale = self.ada(c_BD).chunk(2, dim=-1)
        x_BLD = modulate(x_BLD, shift, scale)
        return self.linear(x_BLD if self.input_multiplier == 1 else x_BLD * self.input_multiplier)
