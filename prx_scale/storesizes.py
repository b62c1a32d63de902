"""What a run must know of a store of latents to build and price its model: as lines that run.json keeps.

channels 16
downsampling 8
context 4096
pooled 2048
text clip-l 0 77 0 768 0 768        name, then half-open ranges of tokens, channels and pooled state
text gemma 77 333 0 2304 0 0 masked its padding is masked
buckets 256 352x160 320x192         image size, then height x width of each bucket
image sd3                           name of the image encoder
captions original long              kinds
made sd3 1f0c...                    an encoder, the image's first, and a hash of what its output depends on
data 8d3a...                        fingerprint of what was encoded
"""

from __future__ import annotations

from prx_scale.data.buckets import Bucket
from prx_scale.data.store.recipe import Recipe
from prx_scale.models.inputs import MASKED, Inputs, TextEncoder
from prx_scale.runtables import Data


def lines_of(recipe: Recipe, inputs: Inputs) -> tuple[str, ...]:
    """The lines that describe a store.

    Args:
        recipe: of its content.
        inputs: what it feeds to a backbone.
    """
    buckets = [
        f"buckets {each.image_size} {_words(*(bucket.name for bucket in each.buckets))}" for each in recipe.resolutions
    ]
    return (
        f"channels {inputs.channels}",
        f"downsampling {recipe.image_spec.downsampling}",
        f"context {inputs.context_dim}",
        f"pooled {inputs.pooled_dim}",
        *map(_text_line, inputs.encoders),
        *buckets,
        f"image {recipe.image.name}",
        f"captions {_words(*recipe.captions.kinds)}".strip(),
        *(f"made {each.name} {each.identity.hash[:16]}" for each in (recipe.image, *recipe.text)),
        f"data {recipe.data.fingerprint}",
    )


def buckets_of(data: Data) -> dict[int, tuple[Bucket, ...]]:
    """The buckets of each image size.

    Args:
        data: with the lines filled in.
    """
    found: dict[int, tuple[Bucket, ...]] = {}
    for size, *names in data.said("buckets"):
        sides = (name.split("x") for name in names)
        found[int(size)] = tuple(Bucket(height=int(height), width=int(width)) for height, width in sides)
    return found


def _text_line(encoder: TextEncoder) -> str:
    masked = (MASKED,) if encoder.masked else ()
    return _words("text", encoder.name, *encoder.tokens, *encoder.channels, *encoder.pooled, *masked)


def _words(*parts: object) -> str:
    return " ".join(map(str, parts))
