"""Validation loss per equidistant noise level, on fixed images and fixed noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from parallel.shards import reshard
from prx_scale.config import RunConfig
from prx_scale.data.opening import open_dataset
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.training.batches import Batch, validation_batch

ITEMS_AT_ONCE = 256
"""At the most: what memory a forward pass may take is up to the micro-batch, and more gains nothing."""


def items_at_once(items: int, micro_batch: int) -> int:
    """Size of a process's batches in validation: those it trains on, evened out.

    Args:
        items: of this process.
        micro_batch: images that it trains on at once.
    """
    batches = -(-items // min(micro_batch, ITEMS_AT_ONCE))
    return -(-items // batches)


@dataclass(frozen=True, kw_only=True)
class LevelLosses:
    """Mean squared error of the velocity at each level t_i = i/K."""

    levels: list[float]
    loss_per_level: list[float]

    @property
    def loss(self) -> float:
        """Mean over the levels without the last: at t = 1 the input is pure noise (Esser et al. 2024, section 5.3)."""
        return sum(self.loss_per_level[:-1]) / (len(self.loss_per_level) - 1)


class Validator:
    """Computes the level losses of a model; the items are dealt out over the data-parallel processes."""

    def __init__(
        self,
        run: RunConfig,
        *,
        device: torch.device,
        rank: int,
        world: int,
        group: dist.ProcessGroup | None = None,
        micro_batch: int = ITEMS_AT_ONCE,
    ) -> None:
        self.run, self.device, self.rank, self.world, self.group = run, device, rank, world, group
        self.micro_batch = micro_batch
        self.dataset = open_dataset(run, "heldout")
        self.items = run.validation.images * run.validation.levels
        self._batches: list[tuple[np.ndarray, Batch]] | None = None

    def _own_batches(self) -> list[tuple[np.ndarray, Batch]]:
        """This process's items, in batches as many as any other process has; made once, as they never change.

        Where the items do not divide evenly, numbers past the last one stand for item 0 and count for nothing.
        """
        if self._batches is None:
            share = -(-self.items // self.world)
            mine = np.arange(self.rank * share, (self.rank + 1) * share)
            size = items_at_once(share, self.micro_batch)
            parts = np.array_split(mine, -(-share // size))
            self._batches = [
                (part, validation_batch(self.run, self.dataset, np.where(part < self.items, part, 0))) for part in parts
            ]
        return self._batches

    @torch.no_grad()
    def losses(self, model: nn.Module) -> LevelLosses:
        """Losses of the weights that the model has now.

        Args:
            model: left in the mode it was in.
        """
        levels = self.run.validation.levels
        sums = torch.zeros(levels, dtype=torch.float64)
        was_training = model.training
        model.eval()
        for items, batch in self._own_batches():
            errors = self._errors(model, batch)
            valid = torch.from_numpy(items < self.items)
            sums.index_add_(0, torch.from_numpy(items % levels)[valid], errors[valid])
        model.train(was_training)
        reshard(model)
        sums = sums.to(self.device)
        if self.world > 1:
            dist.all_reduce(sums, group=self.group)
        return LevelLosses(
            levels=[(i + 1) / levels for i in range(levels)],
            loss_per_level=(sums / self.run.validation.images).tolist(),
        )

    def _errors(self, model: nn.Module, batch: Batch) -> Tensor:
        x0, noise, t = (tensor.to(self.device) for tensor in (batch.x0, batch.noise, batch.t))
        predicted = model(
            interpolate(x0, noise, t),
            t=t,
            context=batch.context.to(self.device),
            pooled=batch.pooled.to(self.device),
        )
        return (predicted - velocity(x0, noise)).square().flatten(1).mean(1).double().cpu()
