"""Shapes and models that the tests of this folder share."""

from __future__ import annotations

import torch

from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.models.sizes import Shape


def sd3_shape(depth: int, *, image_tokens: int = 256, qk_norm: bool = True) -> Shape:
    return Shape(
        depth=depth,
        hidden=64 * depth,
        head_dim=64,
        patch_dim=64,
        context_dim=4096,
        pooled_dim=2048,
        image_tokens=image_tokens,
        text_tokens=154,
        qk_norm=qk_norm,
    )


def small_shape(depth: int, patch: int, *, qk_norm: bool = True) -> Shape:
    return Shape(
        depth=depth,
        hidden=64 * depth,
        head_dim=64,
        patch_dim=3 * patch**2,
        context_dim=24,
        pooled_dim=40,
        image_tokens=(16 // patch) ** 2,
        text_tokens=7,
        qk_norm=qk_norm,
    )


def build(shape: Shape, patch: int, seed: int = 0) -> MMDiT:
    side = round(shape.image_tokens**0.5)
    config = mmdit_config(
        shape, channels=shape.patch_dim // patch**2, patch=patch, grid=PositionGrid(side=side, image=side, base=side)
    )
    config.seed = seed
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device="cpu")
    with torch.no_grad():
        model.init_weights()
    return model
