"""The frozen encoders of a store, run on batches of one size, so that a sample's numbers do not depend on the others.

A product of other sizes may be summed in another order. So encoders are given as many images or captions at a time as
ever, the last time too, when copies fill up; what comes of a sample is then the same to the last bit whether it is
encoded into a store or on the fly. Encoders that mask padding run captions by their lengths, and how many have the same
is left to the data: there, it is the same up to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prx_scale.data.decode import Pixels
from prx_scale.data.store.batch import States
from prx_scale.data.store.packing import pack
from prx_scale.data.store.recipe import Encoder, Recipe
from prx_scale.data.store.shards import TextRows
from prx_scale.data.store.storage import Packed, Storage, empty
from prx_scale.models.encoders.batches import PIXELS_AT_ONCE, encode_images, encode_text
from prx_scale.models.encoders.image.base import FrozenImage, statistics_of
from prx_scale.models.encoders.image.load import load_image
from prx_scale.models.encoders.image.normalisation import LatentScale, LatentStatistics
from prx_scale.models.encoders.registry import TextSpec
from prx_scale.models.encoders.states import TextStates, check_right_padded
from prx_scale.models.encoders.text.base import FrozenText
from prx_scale.models.encoders.text.cleaning import Cleaning
from prx_scale.models.encoders.text.load import load_text

IMAGES_AT_ONCE = 8
CAPTIONS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where encoders are, and how they are loaded."""

    image: str = ""
    """Folder or hub id; empty for the published one."""
    text: Mapping[str, str]
    """By encoder."""
    precision: str = "bfloat16"
    cleaning: Cleaning = "none"


class Encoders:
    """Loaded encoders."""

    def __init__(self, image: FrozenImage | None, text: Sequence[FrozenText]) -> None:
        """Take them together.

        Args:
            image: of images; None where none are encoded.
            text: of captions.
        """
        self.image, self.text = image, tuple(text)

    def complete(self, draft: Recipe) -> Recipe:
        """A recipe that says what the encoders' output depends on.

        Args:
            draft: with their sizes.
        """
        image = self.image
        return replace(
            draft,
            image=draft.image if image is None else Encoder(spec=image.spec, identity=image.identity()),
            text=tuple(Encoder(spec=each.spec, identity=each.identity()) for each in self.text),
        )

    def images(self, pixels: Sequence[Pixels], storage: Storage) -> tuple[Packed, LatentStatistics]:
        """Latents of images of one size, as they are stored, and their statistics before they were rounded.

        Args:
            pixels: B of (H, W, 3), at least one.
            storage: number type.

        Raises:
            InputError: the encoder gave numbers that cannot be stored.
        """
        assert self.image is not None
        height, width = pixels[0].shape[:2]
        at_once = images_at_once(height, width)
        batch = np.stack([*pixels, *[pixels[-1]] * (-len(pixels) % at_once)])
        planes = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
        moments = encode_images(self.image, planes, pixels_at_once=at_once * height * width)
        moments = replace(
            moments,
            mean=moments.mean[: len(pixels)],
            std=None if moments.std is None else moments.std[: len(pixels)],
        )
        packed = pack(moments.on_channels(), storage, 2, f"latents of '{self.image.spec.name}'")
        return packed, statistics_of(moments)

    def captions(self, texts: Sequence[str], storage: Storage, *, pooled_only: bool) -> dict[str, TextRows]:
        """States of captions, as they are stored.

        Args:
            texts: at least one.
            storage: number type.
            pooled_only: leave out states of tokens.

        Raises:
            InputError: an encoder gave numbers that cannot be stored.
        """
        filled = [*texts, *[""] * (-len(texts) % CAPTIONS_AT_ONCE)]
        found: dict[str, TextRows] = {}
        for encoder in self.text:
            states = encode_text(encoder, filled, at_once=CAPTIONS_AT_ONCE).rows(0, len(texts))
            found[encoder.spec.name] = _rows(states, encoder.spec, storage, pooled_only)
        return found


def load_encoders(draft: Recipe, weights: Weights, device: str, *, images: bool = True) -> Encoders:
    """Load the encoders of a recipe.

    Args:
        draft: names them.
        weights: where they are.
        device: that they run on.
        images: the image encoder too.

    Raises:
        InputError: they are not there, or of other sizes.
    """
    dtype: torch.dtype = getattr(torch, weights.precision)
    image = None
    if images:
        # Moments are stored as they are: an autoencoder whose scale has to be measured needs none here.
        image = load_image(draft.image_spec, weights.image, dtype=dtype, device=device, scale=LatentScale())
    text = [
        load_text(spec, weights.text.get(spec.name, ""), dtype=dtype, device=device, cleaning=weights.cleaning)
        for spec in draft.text_specs
    ]
    return Encoders(image, text)


def images_at_once(height: int, width: int) -> int:
    """How many images an encoder is given at a time.

    Args:
        height: of each.
        width: of each.
    """
    return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def _rows(states: TextStates, spec: TextSpec, storage: Storage, pooled_only: bool) -> TextRows:
    what = f"text states of '{spec.name}'"
    pooled = pack(states.pooled, storage, 1, f"{what}, pooled") if spec.pooled else None
    if pooled_only:
        return TextRows(tokens=None, pooled=pooled, lengths=None)
    if states.mask is None:
        return TextRows(tokens=pack(states.tokens, storage, 1, what), pooled=pooled, lengths=None)
    check_right_padded(states.mask, what)
    # Only real tokens are kept; the reader fills up with zeros.
    tokens: Tensor = states.tokens[states.mask]
    lengths = states.mask.sum(dim=1).numpy()
    return TextRows(tokens=pack(tokens, storage, 1, what), pooled=pooled, lengths=lengths)


def as_batch(rows: TextRows, spec: TextSpec, picked: Sequence[int]) -> States:
    """Stored states as a batch has them.

    Args:
        rows: of different captions.
        spec: of the encoder.
        picked: which caption each sample of the batch has.
    """
    index = np.array(picked, dtype=np.int64)
    pooled = None if rows.pooled is None else _taken(rows.pooled, index)
    if rows.tokens is None or rows.lengths is None:
        tokens = None if rows.tokens is None else _taken(rows.tokens, index)
        return States(tokens=tokens, pooled=pooled, lengths=None)
    room = empty((len(index), spec.tokens, spec.width), rows.tokens.storage, row_axes=1)
    ends = np.cumsum(rows.lengths)
    for place, row in enumerate(index.tolist()):
        length = int(rows.lengths[row])
        inside = slice(int(ends[row]) - length, int(ends[row]))
        room.bits[place, :length], room.bits[place, length:] = rows.tokens.bits[inside], 0
        if room.exponents is not None and rows.tokens.exponents is not None:
            room.exponents[place, :length], room.exponents[place, length:] = rows.tokens.exponents[inside], 0
    return States(tokens=room, pooled=pooled, lengths=rows.lengths[index].astype(np.int32))


def _taken(packed: Packed, index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Packed:
    exponents = None if packed.exponents is None else packed.exponents[index]
    return replace(packed, bits=packed.bits[index], exponents=exponents)
