"""Exponential moving average of the weights, sharded like them and saved beside them under its own name."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parallel.shards import local
from parallel.titan import canonical_fqn


def decay_at(step: int, decay: float) -> float:
    """The decay of a step: min(decay, (1 + step) / (10 + step)), so that a short run is not held by its start.

    Args:
        step: from 1.
        decay: the decay of a long run.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


class AveragedWeights:
    """EMA of a model's parameters: e <- d e + (1 - d) w after each optimiser step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.average: dict[str, Tensor] = {
            canonical_fqn(name): parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    def _pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        weights = [local(parameter.detach()) for parameter in self.model.parameters()]
        return [local(average) for average in self.average.values()], weights

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step.

        Args:
            step: from 1.
        """
        averages, weights = self._pairs()
        keep = 1 - decay_at(step, self.decay)
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, keep)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """While it lasts, the model has the averaged weights."""
        averages, weights = self._pairs()
        raw = [weight.clone() for weight in weights]
        _copy(weights, averages)
        try:
            yield
        finally:
            _copy(weights, raw)

    def state_dict(self) -> dict[str, Any]:
        """The averages by parameter name."""
        return dict(self.average)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Checkpoints are read into the averages in place, so there is nothing left to do."""
        for name, average in self.average.items():
            if state_dict[name] is not average:
                local(average).copy_(local(state_dict[name]))
