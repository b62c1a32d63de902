"""From a sample of the data to what encoders are given: the image at its bucket's size, and its captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from prx_scale.data.buckets import assign, reaches
from prx_scale.data.captions import CLASS, Caption, CaptionMix
from prx_scale.data.decode import DRAFT_GAP, Limits, OpenedImage, Pixels, open_image
from prx_scale.data.framing import Framing, frame
from prx_scale.data.samples import RawSample, Skipped
from prx_scale.data.store.recipe import Preprocessing, Resolution


@dataclass(frozen=True, kw_only=True, eq=False)
class Framed:
    """An image at the size of its bucket."""

    image_size: int
    """The resolution."""
    bucket: int
    """Its number there."""
    pixels: Pixels
    """(H, W, 3)"""
    conditioning: tuple[int, int, int, int, int, int]
    """See :attr:`Framing.conditioning`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A sample, ready for the encoders."""

    number: int
    key: str
    shard: str
    place: int
    size: tuple[int, int]
    """Height and width of the upright image."""
    images: tuple[Framed, ...]
    """One for each resolution that it has the pixels for."""
    captions: Mapping[str, str]
    """By kind, those that are there."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Preparer:
    """Makes of samples what encoders are given."""

    resolutions: tuple[Resolution, ...]
    preprocessing: Preprocessing
    kinds: tuple[str, ...]
    """Of captions."""
    classes: CaptionMix | None = None
    """What captions of the kind "class" are made of."""
    seed: int = 0
    """Of the draw of a class's name and template."""

    def __call__(self, number: int, sample: RawSample) -> Prepared | Skipped:
        """A sample, ready for the encoders.

        Args:
            number: in the data.
            sample: with its image as it is stored.
        """
        opened = open_image(sample, self.limits)
        if isinstance(opened, Skipped):
            return opened
        images: list[Framed] = []
        for resolution in self.resolutions:
            # One that has been decoded for a size is not opened again for the next by itself.
            image = opened if not images else open_image(sample, self.limits)
            found = image if isinstance(image, Skipped) else self._framed(image, resolution)
            if isinstance(found, Skipped):
                return found
            if found is not None:
                images.append(found)
        return Prepared(
            number=number,
            key=sample.key,
            shard=sample.shard,
            place=sample.place,
            size=opened.size,
            images=tuple(images),
            captions=self.captions(number, sample),
            scores=sample.scores,
            label=sample.label,
        )

    def captions(self, number: int, sample: RawSample) -> dict[str, str]:
        """The captions of a sample, by kind; that of its class is drawn by its number, and stays.

        Args:
            number: in the data.
            sample: without need of its image.
        """
        found = {kind: text for kind in self.kinds if (text := sample.captions.get(kind, "")).strip()}
        if CLASS in self.kinds and self.classes is not None:
            caption = self.classes.choose({}, sample.label, seed=self.seed, index=number)
            if isinstance(caption, Caption) and caption.kind == CLASS:
                found[CLASS] = caption.text
        return {kind: found[kind] for kind in self.kinds if kind in found}

    def bucket_of(self, size: tuple[int, int], resolution: Resolution) -> int:
        """The bucket of an image; -1 where it is too small.

        Args:
            size: height and width of the upright image.
            resolution: with the buckets.
        """
        height, width = size
        if not reaches([height], [width], resolution.image_size, self.preprocessing.max_upscaling)[0]:
            return -1
        return int(assign(resolution.buckets, [height], [width])[0])

    def _framed(self, image: OpenedImage, resolution: Resolution) -> Framed | Skipped | None:
        number = self.bucket_of(image.size, resolution)
        if number < 0:
            return None
        framing = frame(image.size, resolution.buckets[number], self.preprocessing.stretch)
        pixels = framed(image, framing)
        if isinstance(pixels, Skipped):
            return pixels
        return Framed(image_size=resolution.image_size, bucket=number, pixels=pixels, conditioning=framing.conditioning)

    @property
    def limits(self) -> Limits:
        """What is refused by its size."""
        preprocessing = self.preprocessing
        return Limits(
            max_pixels=preprocessing.max_pixels,
            min_pixels=preprocessing.min_pixels,
            max_ratio=preprocessing.max_ratio,
        )


def framed(image: OpenedImage, framing: Framing) -> Pixels | Skipped:
    """An image at its framing's target.

    Args:
        image: not yet decoded.
        framing: of its size.
    """
    height, width = framing.target
    if framing.resized != framing.target or _same_ratio(framing):
        found = image.fitted(height, width)
        return found if isinstance(found, Skipped) else found.pixels
    pixels = image.pixels(at_least=(DRAFT_GAP * height, DRAFT_GAP * width))
    return pixels if isinstance(pixels, Skipped) else _stretched(pixels, height, width)


def _same_ratio(framing: Framing) -> bool:
    (height, width), (rows, columns) = framing.original, framing.target
    return height * columns == width * rows


def _stretched(pixels: Pixels, height: int, width: int) -> Pixels:
    """Both sides brought to size by the filter that fits images."""
    import torch

    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    scaled = torch.nn.functional.interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return np.ascontiguousarray(scaled[0].permute(1, 2, 0).numpy())


def preprocessing_of(stretch: float, max_upscaling: float, limits: Limits) -> Preprocessing:
    """How images are brought to buckets.

    Args:
        stretch: of `[buckets]`.
        max_upscaling: of `[buckets]`.
        limits: what is refused by its size.
    """
    return Preprocessing(
        stretch=stretch,
        max_upscaling=max_upscaling,
        max_pixels=limits.max_pixels,
        min_pixels=limits.min_pixels,
        max_ratio=limits.max_ratio,
    )
