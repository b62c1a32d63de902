"""Training and validation samples as tensors: images, text states, noise and timesteps, all named by sample index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parallel.titan import BaseDataLoader
from prx_scale.config import RunConfig
from prx_scale.data.opening import Dataset, Samples, open_dataset
from prx_scale.data.stored import StoredTraining
from prx_scale.diffusion.draws import Draws, Indices, Purpose, draw
from prx_scale.diffusion.timesteps import shifted, timesteps
from prx_scale.models.encoders.dropping import drop, drop_encoder
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.inputs import inputs_of
from prx_scale.turns import Turns

if TYPE_CHECKING:
    from prx_scale.data.onthefly.stream import OnTheFly
    from prx_scale.data.onthefly.training import StreamedTraining


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B samples: x0 and noise (B, C, H, W), t (B,), context (B, L, D), pooled (B, D)."""

    x0: Tensor
    noise: Tensor
    t: Tensor
    context: Tensor
    pooled: Tensor
    mask: Tensor | None = None
    """(B, L), true at real tokens of the text; None where every token counts."""
    size: Tensor | None = None
    """(B, 6) original height and width, top and left of the cut, target height and width, in pixels; None where the
    model is not told."""

    @property
    def conditions(self) -> dict[str, Tensor]:
        """What the backbone is told: its keyword arguments."""
        named = {"t": self.t, "context": self.context, "pooled": self.pooled, "mask": self.mask, "size": self.size}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in (self.x0, self.noise, *self.conditions.values()))


def training_batch(run: RunConfig, dataset: Dataset, indices: Indices) -> Batch:
    """The training samples of the given indices.

    A share `caption_dropout` of them loses its condition: the text states become zero, and an encoder that masks its
    padding has no tokens. In a share `encoder_dropout` that happens to a text encoder, for each encoder by itself.

    Args:
        run: names data, objective and seed.
        dataset: the training split.
        indices: (B,) sample numbers.
    """
    samples = dataset.batch(indices)
    encoders = len(inputs_of(run.data).encoders)
    draws = draw(run.training.seed, Purpose.TRAINING, indices, samples.image.shape[1:], more=encoders)
    text = text_of(samples)
    drop_conditions(run, draws, text)
    t = shifted(timesteps(run.objective, draws.normal), run.shift)
    return Batch(
        x0=torch.from_numpy(samples.image),
        noise=torch.from_numpy(draws.noise),
        t=torch.from_numpy(t.astype(np.float32)),
        context=text.tokens,
        pooled=text.pooled,
        mask=text.mask,
        size=told_size(run, samples),
    )


def told_size(run: RunConfig, samples: Samples) -> Tensor | None:
    """(B, 6) sizes for a model that is told them, float32, which has any number of pixels exactly.

    Args:
        run: says whether it is.
        samples: of the batch.
    """
    return torch.from_numpy(samples.size.astype(np.float32)) if run.model.size_conditioning else None


def text_of(samples: Samples) -> TextStates:
    """The text states of samples, in the samples' own memory.

    Args:
        samples: of any dataset.
    """
    tokens, pooled = torch.as_tensor(samples.context), torch.as_tensor(samples.pooled)
    return TextStates(tokens=tokens, pooled=pooled, mask=samples.mask)


def drop_conditions(run: RunConfig, draws: Draws, text: TextStates) -> None:
    """Take the condition, or one encoder's part of it, from the samples that lose it.

    Args:
        run: says which shares.
        draws: one uniform draw a sample, and one a sample and encoder.
        text: written into.
    """
    inputs = inputs_of(run.data)
    drop(text, inputs, _rows(draws.uniform < run.objective.caption_dropout))
    for encoder, uniform in zip(inputs.encoders, draws.more.T, strict=True):
        drop_encoder(text, encoder, _rows(uniform < run.objective.encoder_dropout))


def _rows(chosen: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


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
    text = text_of(samples)
    draws: Draws = draw(run.data.seed, Purpose.VALIDATION, items, samples.image.shape[1:])
    return Batch(
        x0=torch.from_numpy(samples.image),
        noise=torch.from_numpy(draws.noise),
        t=torch.from_numpy(((items % levels + 1) / levels).astype(np.float32)),
        context=text.tokens,
        pooled=text.pooled,
        mask=text.mask,
        size=told_size(run, samples),
    )


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Samples of an order that did not begin with training, by their place in training."""

    dataset: StoredTraining
    behind: int
    """Places in training minus those in the order."""

    def batch(self, indices: Indices) -> Samples:
        """The samples of the given places in training."""
        return self.dataset.batch_at(indices - self.behind, indices)


class TrainingData:
    """What the steps of a run train on, opened when a stage needs it."""

    def __init__(self, run: RunConfig) -> None:
        """Nothing is open yet.

        Args:
            run: with the steps of all stages.
        """
        self.turns = Turns(run)
        self._stage, self._open = -1, dict[int, Dataset]()

    def after(self, seen: int) -> tuple[RunConfig, Dataset]:
        """The run that a step's batch is of, and its data by place in training.

        Args:
            seen: samples of all processes before it, or in the middle of it.
        """
        turn = self.turns.after(seen)
        if turn.stage != self._stage:
            self._stage, self._open = turn.stage, {}
        if turn.order not in self._open:
            self._open[turn.order] = open_dataset(turn.run, "train", turn.order, turn.data)
        dataset = self._open[turn.order]
        if isinstance(dataset, StoredTraining):
            return turn.run, Placed(dataset=dataset, behind=turn.first - turn.place * turn.run.training.batch)
        return turn.run, dataset


class SampleLoader(BaseDataLoader):
    """Endless training batches of one process.

    Its state is one number, the samples that all processes together have seen, so a checkpoint resumes on any number
    of processes: rank r of R takes samples seen + r b ... seen + (r + 1) b - 1 for a micro-batch of b.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        run: RunConfig
        folder: Path | None = None
        """Of the run, where something is encoded on the fly."""

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self.stream = _stream(config, dp_rank, dp_world_size)
        self.data, self.staged = _followed(config.run, self.stream), bool(config.run.stages)
        self.world, self.rank, self.size = dp_world_size, dp_rank, local_batch_size
        self.seen = 0

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """(inputs, x0); x0 stands where TorchTitan expects labels, and is what it counts.

        The next one is made while training is at this one.
        """
        with ThreadPoolExecutor(1) as ahead:
            coming, start = ahead.submit(self._made, self.seen), self.seen
            while True:
                if start != self.seen:  # a checkpoint was loaded in between
                    coming = ahead.submit(self._made, self.seen)
                batch, self.seen = coming.result()
                start = self.seen
                coming = ahead.submit(self._made, start)
                yield {"noise": batch.noise, **batch.conditions}, batch.x0

    def _made(self, seen: int) -> tuple[Batch, int]:
        """This process's micro-batch after those seen, and how many are seen with it."""
        run, dataset = self.data.after(seen)
        size = self._own(run) if self.staged else self.size
        start = seen + self.rank * size
        return training_batch(run, dataset, np.arange(start, start + size)), seen + self.world * size

    def _own(self, run: RunConfig) -> int:
        """Samples of a micro-batch of a stage."""
        return run.parallel.micro_batch or run.training.batch // self.world

    def heldout(self, run: RunConfig) -> Dataset:
        """What a run is validated on.

        Args:
            run: the run.
        """
        if self.stream is None:
            return open_dataset(run, "heldout")
        from prx_scale.data.onthefly.training import StreamedHeldout

        return StreamedHeldout(self.stream)

    def close(self) -> None:
        """End the processes that encode, if there are any."""
        if self.stream is not None:
            self.stream.close()

    def state_dict(self) -> dict[str, Any]:
        """Samples seen by all processes."""
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        self.seen = state_dict["seen"]


def _stream(config: SampleLoader.Config, rank: int, world: int) -> OnTheFly | None:
    if not config.run.on_the_fly:
        return None
    from prx_scale.data.onthefly.opening import Part, open_run

    assert config.folder is not None
    study, skips = config.folder.parent.parent, config.folder / f"rank{os.environ.get('RANK', '0')}.skipped.jsonl"
    return open_run(config.run, study, Part(rank=rank, world=world), skips)


def _followed(run: RunConfig, stream: OnTheFly | None) -> TrainingData | StreamedTraining:
    if stream is None:
        return TrainingData(run)
    from prx_scale.data.onthefly.training import StreamedTraining

    return StreamedTraining(stream)
