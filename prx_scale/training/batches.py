"""Training and validation samples as tensors: images, text states, noise and timesteps, all named by sample index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parallel.titan import BaseDataLoader
from prx_scale.config import RunConfig
from prx_scale.data.opening import Dataset, open_dataset
from prx_scale.diffusion.draws import Draws, Floats32, Indices, Purpose, draw
from prx_scale.diffusion.timesteps import shifted, timesteps
from prx_scale.models.inputs import inputs_of


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B samples: x0 and noise (B, C, H, W), t (B,), context (B, L, D), pooled (B, D)."""

    x0: Tensor
    noise: Tensor
    t: Tensor
    context: Tensor
    pooled: Tensor


def training_batch(run: RunConfig, dataset: Dataset, indices: Indices) -> Batch:
    """The training samples of the given indices.

    A share `caption_dropout` of them loses its condition: the text states become zero. In a share `encoder_dropout`
    those of a text encoder do, for each encoder by itself.

    Args:
        run: names data, objective and seed.
        dataset: the training split.
        indices: (B,) sample numbers.
    """
    samples = dataset.batch(indices)
    encoders = len(inputs_of(run.data).encoders)
    draws = draw(run.training.seed, Purpose.TRAINING, indices, samples.image.shape[1:], more=encoders)
    context, pooled = without_dropped(run, draws, samples.context, samples.pooled)
    t = shifted(timesteps(run.objective, draws.normal), run.shift)
    return Batch(
        x0=torch.from_numpy(samples.image),
        noise=torch.from_numpy(draws.noise),
        t=torch.from_numpy(t.astype(np.float32)),
        context=torch.from_numpy(context),
        pooled=torch.from_numpy(pooled),
    )


def without_dropped(run: RunConfig, draws: Draws, context: Floats32, pooled: Floats32) -> tuple[Floats32, Floats32]:
    """Text states with zeros where the condition, or one encoder's part of it, is dropped.

    Args:
        run: says which shares.
        draws: one uniform draw a sample, and one a sample and encoder.
        context: (B, L, D).
        pooled: (B, P).
    """
    kept = draws.uniform >= run.objective.caption_dropout
    context, pooled = context * kept[:, None, None], pooled * kept[:, None]
    for encoder, uniform in zip(inputs_of(run.data).encoders, draws.more.T, strict=True):
        dropped = uniform < run.objective.encoder_dropout
        context[np.ix_(dropped, range(*encoder.tokens), range(*encoder.channels))] = 0
        pooled[np.ix_(dropped, range(*encoder.pooled))] = 0
    return context, pooled


def validation_batch(run: RunConfig, dataset: Dataset, items: Indices) -> Batch:
    """Held-out images at equidistant noise levels; item i is image i // K at level t = (i % K + 1) / K.

    The draws belong to the data's seed, not the run's: every run and checkpoint sees the same images and noise.

    Args:
        run: names data and levels.
        dataset: the held-out split.
        items: (B,) item numbers.
    """
    levels = run.validation.levels
    samples = dataset.batch(items // levels)
    draws: Draws = draw(run.data.seed, Purpose.VALIDATION, items, samples.image.shape[1:])
    return Batch(
        x0=torch.from_numpy(samples.image),
        noise=torch.from_numpy(draws.noise),
        t=torch.from_numpy(((items % levels + 1) / levels).astype(np.float32)),
        context=torch.from_numpy(samples.context),
        pooled=torch.from_numpy(samples.pooled),
    )


class SampleLoader(BaseDataLoader):
    """Endless training batches of one process.

    Its state is one number, the samples that all processes together have seen, so a checkpoint resumes on any number
    of processes: rank r of R takes samples seen + r b ... seen + (r + 1) b - 1 for a micro-batch of b.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        run: RunConfig

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self.run = config.run
        self.dataset = open_dataset(config.run, "train")
        self.world, self.rank, self.size = dp_world_size, dp_rank, local_batch_size
        self.seen = 0

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """(inputs, x0); x0 stands where TorchTitan expects labels, and is what it counts."""
        while True:
            start = self.seen + self.rank * self.size
            batch = training_batch(self.run, self.dataset, np.arange(start, start + self.size))
            self.seen += self.world * self.size
            inputs = {"noise": batch.noise, "t": batch.t, "context": batch.context, "pooled": batch.pooled}
            yield inputs, batch.x0

    def state_dict(self) -> dict[str, Any]:
        """Samples seen by all processes."""
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        self.seen = state_dict["seen"]
