"""The layers that a block is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from parallel.titan import Linear as _Linear
from parallel.titan import Module
from parallel.titan import RMSNorm as _RMSNorm
from prx_scale.models import functional


class Linear(_Linear):
    """TorchTitan's linear layer with this project's product."""

    @dataclass(kw_only=True, slots=True)
    class Config(_Linear.Config):
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return functional.linear(input, self.weight, self.bias)


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
