"""The `shapes` data set: practically endless training samples and a disjoint held-out split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.framing import uncropped
from prx_scale.data.shapes.captions import long_caption, short_caption
from prx_scale.data.shapes.render import render, scale_of
from prx_scale.data.shapes.scenes import CANVAS, Scene, Split, draw
from prx_scale.data.shapes.text import encode

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ShapesBatch:
    """B samples: image (B, 3, H, W) in [-1, 1], context (B, L, 64), pooled (B, 64), size (B, 6), captions, scenes."""

    image: Floats
    context: Floats
    pooled: Floats
    size: NDArray[np.int32]
    captions: tuple[str, ...]
    scenes: tuple[Scene, ...]
    mask: None = None
    """Every token counts."""


@dataclass(frozen=True, kw_only=True)
class ShapesDataset:
    """Images of flat shapes with exact captions.

    Args:
        seed: stream of scenes. The held-out split is disjoint from training under every seed.
        image_size: a multiple of 16.
        split: "train" or "heldout".
        caption_mix: share of long captions, drawn per index; the others are short.
        encoders: text encoders, 1 or 2.
    """

    seed: int = 0
    image_size: int = CANVAS
    split: Split = "train"
    caption_mix: float = 0.5
    encoders: int = 1

    def __post_init__(self) -> None:
        """Refuse an image size that cannot be drawn."""
        scale_of(self.image_size)

    def batch(self, indices: NDArray[np.int64]) -> ShapesBatch:
        """The samples of the given indices.

        Args:
            indices: (B,) sample numbers. The same number gives the same sample on every rank and in every order.
        """
        arrays = draw(self.seed, np.asarray(indices, dtype=np.int64), self.split)
        scenes = tuple(arrays.scenes())
        long = (arrays.caption_draw < self.caption_mix).tolist()
        captions = tuple(
            long_caption(scene) if is_long else short_caption(scene)
            for scene, is_long in zip(scenes, long, strict=True)
        )
        context, pooled = encode(captions, self.encoders)
        image = render(arrays, self.image_size)
        return ShapesBatch(
            image=image,
            context=context,
            pooled=pooled,
            size=np.full((len(image), 6), uncropped((self.image_size, self.image_size)), dtype=np.int32),
            captions=captions,
            scenes=scenes,
        )
