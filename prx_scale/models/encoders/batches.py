"""Encoding many captions or images with bounded memory on the encoder's device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.encoders.image.base import FrozenImage
from prx_scale.models.encoders.image.moments import Moments
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.base import FrozenText
from prx_scale.models.encoders.text.together import TextEncoders

CAPTIONS_AT_ONCE = 64
PIXELS_AT_ONCE = 2**20
"""Height x width, over the images that are encoded at once: 16 of 256 x 256."""

Tensors = tuple[Tensor | None, ...]


def encode_text(
    encoder: FrozenText | TextEncoders, captions: Sequence[str], *, at_once: int = CAPTIONS_AT_ONCE
) -> TextStates:
    """States of captions in main memory; the device holds those of `at_once` captions.

    Args:
        encoder: one, or several together.
        captions: at least one.
        at_once: how many the encoder is given; fewer where its device runs out of memory.
    """

    def encode(first: int, last: int) -> Tensors:
        states = encoder.encode(captions[first:last])
        return states.tokens, states.pooled, states.mask

    tokens, pooled, mask = _gathered(encode, len(captions), at_once)
    assert tokens is not None and pooled is not None
    return TextStates(tokens=tokens, pooled=pooled, mask=mask)


def encode_images(encoder: FrozenImage, images: Tensor, *, pixels_at_once: int = PIXELS_AT_ONCE) -> Moments:
    """Moments of images in main memory; the device holds those of `pixels_at_once` pixels.

    Args:
        encoder: of images.
        images: (B, 3, H, W), at least one, bytes from 0 to 255 or numbers in [-1, 1].
        pixels_at_once: height x width over the images that the encoder is given, but always one image; fewer where its
            device runs out of memory.
    """

    def encode(first: int, last: int) -> Tensors:
        moments = encoder.encode(images[first:last])
        return moments.mean, moments.std

    at_once = max(1, pixels_at_once // max(1, images.shape[-2] * images.shape[-1]))
    mean, std = _gathered(encode, len(images), at_once)
    assert mean is not None
    return Moments(mean=mean, std=std)


def _gathered(encode: Callable[[int, int], Tensors], count: int, at_once: int) -> Tensors:
    """All rows in main memory, each part written to its place, so that none of it is there twice."""
    if not count:
        raise InputError("nothing to encode")
    whole: list[Tensor | None] = []
    for first, part in _parts(encode, count, at_once):
        if not whole:
            whole = [None if each is None else each.new_empty((count, *each.shape[1:]), device="cpu") for each in part]
        for place, each in zip(whole, part, strict=True):
            if place is not None and each is not None:
                place[first : first + len(each)] = each
    return tuple(whole)


def _parts(encode: Callable[[int, int], Tensors], count: int, at_once: int) -> Iterator[tuple[int, Tensors]]:
    """Encode rows in order; after a device ran out of memory, half as many at once."""
    first = 0
    while first < count:
        last = min(count, first + at_once)
        part = _or_none(encode, first, last)
        if part is None:
            at_once = (last - first) // 2
            torch.cuda.empty_cache()
            continue
        yield first, part
        first = last


def _or_none(encode: Callable[[int, int], Tensors], first: int, last: int) -> Tensors | None:
    # On return the error is gone, and with it the activations that its frames hold.
    try:
        return encode(first, last)
    except torch.OutOfMemoryError:
        if last - first == 1:
            raise
        return None
