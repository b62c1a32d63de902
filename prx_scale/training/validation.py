"""Validation loss per equidistant noise level, on fixed images and fixed noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from parallel.shards import reshard
from prx_scale.config import RunConfig
from prx_scale.data.opening import Dataset, of_one_shape, open_dataset
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.training.batches import Batch, validation_batch

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
ITEMS_AT_ONCE = 256
"""At the most: what memory a forward pass may take is up to the micro-batch, and more gains nothing."""
KEPT_BYTES = 1 << 30
"""Of a process's batches that stay in memory between validations: SD3's text states are 2.5 MB a level and image."""


def items_at_once(items: int, micro_batch: int) -> int:
    """Size of a process's batches in validation: those it trains on, evened out.

    Args:
        items: of this process.
        micro_batch: images that it trains on at once.
    """
    batches = -(-items // min(micro_batch, ITEMS_AT_ONCE))
    return -(-items // batches)


def items_of(images: Indices, levels: int) -> Indices:
    """The items of some images: each at every level.

    Args:
        images: (N,) their numbers.
        levels: K.
    """
    return (images[:, None] * levels + np.arange(levels)).reshape(-1)


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
        dataset: Dataset | None = None,
    ) -> None:
        """Take what is validated.

        Args:
            run: the run.
            device: that its model is on.
            rank: of this process among those that have items of their own.
            world: how many those are.
            group: that they add up in.
            micro_batch: images that a process holds at once.
            dataset: the held-out split; None opens that of the run.
        """
        self.run, self.device, self.rank, self.world, self.group = run, device, rank, world, group
        self.micro_batch = micro_batch
        self.dataset = dataset or open_dataset(run, "heldout")
        self._kept, self._room = list[Batch](), KEPT_BYTES

    def _own_batches(self) -> Iterator[tuple[Indices, Mask, Batch]]:
        """This process's items, in batches as many as any other process has.

        Those of each shape are dealt out by themselves. They never change: as many as there is room for stay in memory,
        and the others are made anew.
        """
        dealt = (
            part
            for images in of_one_shape(self.dataset, self.run.validation.images)
            for part in self._dealt(items_of(images, self.run.validation.levels))
        )
        for number, (items, counts) in enumerate(dealt):
            if number < len(self._kept):
                yield items, counts, self._kept[number]
                continue
            batch = validation_batch(self.run, self.dataset, items)
            if number == len(self._kept) and batch.nbytes <= self._room:
                self._kept.append(batch)
                self._room -= batch.nbytes
            yield items, counts, batch

    def _dealt(self, items: Indices) -> Iterator[tuple[Indices, Mask]]:
        """This process's part of some items, batch by batch, and which of a batch count.

        Where the items do not divide evenly, the first one fills up and counts for nothing.
        """
        share = -(-len(items) // self.world)
        mine = np.arange(self.rank * share, (self.rank + 1) * share)
        size = items_at_once(share, self.micro_batch)
        for part in np.array_split(mine, -(-share // size)):
            counts = part < len(items)
            yield items[np.where(counts, part, 0)], counts

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
        for items, counts, batch in self._own_batches():
            errors = self._errors(model, batch)
            valid = torch.from_numpy(counts)
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
        x0, noise = batch.x0.to(self.device), batch.noise.to(self.device)
        conditions = {name: tensor.to(self.device) for name, tensor in batch.conditions.items()}
        predicted = model(interpolate(x0, noise, conditions["t"]), **conditions)
        return (predicted - velocity(x0, noise)).square().flatten(1).mean(1).double().cpu()
