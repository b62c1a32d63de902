"""The dataset that a run's configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.random import RandomDataset
from prx_scale.data.shapes.dataset import ShapesDataset
from prx_scale.data.shapes.scenes import Split
from prx_scale.errors import InputError
from prx_scale.models.inputs import inputs_of
from prx_scale.stagetables import Source

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Samples(Protocol):
    """B samples: image (B, C, H, W), context (B, L, D), pooled (B, P), mask (B, L), size (B, 6)."""

    @property
    def image(self) -> Floats:
        """Images or latents."""
        ...

    @property
    def context(self) -> Floats | Tensor:
        """Token states of the text."""
        ...

    @property
    def pooled(self) -> Floats | Tensor:
        """Pooled state of the text."""
        ...

    @property
    def mask(self) -> Tensor | None:
        """True at real tokens of the text; None where every token counts."""
        ...

    @property
    def size(self) -> NDArray[np.int32]:
        """Original height and width, top and left of the cut, target height and width, in pixels."""
        ...


class Dataset(Protocol):
    """Samples by their number."""

    def batch(self, indices: NDArray[np.int64]) -> Samples:
        """The samples of the given indices."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """A dataset whose samples are of several shapes."""

    def of_one_shape(self) -> list[Indices]:
        """All sample numbers, those of each shape together."""
        ...


def open_dataset(run: RunConfig, split: Split, order: int = 0, sources: Sequence[Source] = ()) -> Dataset:
    """The dataset of a run.

    Args:
        run: the run.
        split: "train", or "heldout" for validation.
        order: names the order of a store's samples.
        sources: stores that are trained on in the place of that of [data].

    Raises:
        InputError: a store is not what the run trains on.
    """
    data = run.data
    if run.on_the_fly:
        raise InputError(
            f'[data] dataset = "{data.dataset}": what is encoded while training is there for prx-scale train alone; '
            "encode it into a store for this"
        )
    if data.dataset == "store":
        return _open_store(run, split, order, sources)
    if data.dataset == "shapes":
        return ShapesDataset(
            seed=data.seed,
            image_size=data.image_size,
            split=split,
            caption_mix=data.long_captions,
            encoders=data.encoders,
        )
    inputs, side = inputs_of(data), data.image_size // data.downsampling
    return RandomDataset(
        seed=data.seed,
        heldout=split == "heldout",
        image=(inputs.channels, side, side),
        downsampling=data.downsampling,
        context=(inputs.text_tokens, inputs.context_dim),
        pooled=inputs.pooled_dim,
    )


def _open_store(run: RunConfig, split: Split, order: int, sources: Sequence[Source]) -> Dataset:
    from prx_scale.data.stored import StoredHeldout, StoredTraining

    return StoredTraining(run, order, sources) if split == "train" else StoredHeldout(run)


def of_one_shape(dataset: Dataset, count: int) -> list[Indices]:
    """The first samples of a dataset, those of each shape together: a batch has samples of one.

    Args:
        dataset: the held-out split.
        count: how many.
    """
    return dataset.of_one_shape() if isinstance(dataset, Shaped) else [np.arange(count)]
