"""Batches of images of one size, as pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prx_scale.data.decode import DEFAULT_LIMITS, Fitted, Limits, fit
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.streaming import Slot


@dataclass(frozen=True, kw_only=True)
class FittedSample:
    """An image at the size of its batch, and what came with it; `raw` has no image bytes any more."""

    image: Fitted
    raw: RawSample


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """B images of one size."""

    pixels: Tensor
    """(B, H, W, 3) bytes: a quarter of what floats would be between processes and devices; see :func:`as_floats`."""
    positions: Tensor
    """(B,) each sample's number through all epochs."""
    original: Tensor
    """(B, 2) height and width of the image before."""
    crop: Tensor
    """(B, 2) rows and columns cut off above and left."""
    keys: tuple[str, ...]
    captions: tuple[Mapping[str, str], ...]
    labels: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class FitImages:
    """Makes images of one size; what `StreamLoader` calls `prepare`."""

    height: int
    width: int
    limits: Limits = DEFAULT_LIMITS

    def __call__(self, sample: RawSample) -> FittedSample | Skipped:
        """The sample with its image scaled and cut."""
        image = fit(sample, self.height, self.width, self.limits)
        if isinstance(image, Skipped):
            return image
        raw = RawSample(
            key=sample.key,
            image=b"",
            captions=sample.captions,
            scores=sample.scores,
            size=image.original,
            label=sample.label,
            shard=sample.shard,
            place=sample.place,
        )
        return FittedSample(image=image, raw=raw)


def stack_images(slots: Sequence[Slot[FittedSample]]) -> ImageBatch:
    """Images of one size as a batch; what `StreamLoader` calls `collate`."""
    values = [slot.value for slot in slots]
    return ImageBatch(
        pixels=torch.from_numpy(np.stack([value.image.pixels for value in values])),
        positions=torch.tensor([slot.position for slot in slots]),
        original=torch.tensor([value.image.original for value in values]),
        crop=torch.tensor([value.image.crop for value in values]),
        keys=tuple(value.raw.key for value in values),
        captions=tuple(value.raw.captions for value in values),
        labels=tuple(value.raw.label for value in values),
    )


def as_floats(pixels: Tensor) -> Tensor:
    """Bytes (B, H, W, 3) as floats (B, 3, H, W) from -1 to 1, on the device that they are on."""
    floats = torch.empty((pixels.shape[0], 3, *pixels.shape[1:3]), dtype=torch.float32, device=pixels.device)
    return floats.copy_(pixels.permute(0, 3, 1, 2)).div_(127.5).sub_(1.0)
