"""From a run's configuration to its model's sizes; needs no torch, so that a sweep can be priced anywhere."""

from __future__ import annotations

from prx_scale.config import HEAD_DIM, RunConfig
from prx_scale.data.shapes.captions import MAX_TOKENS
from prx_scale.data.shapes.text import TEXT_DIM
from prx_scale.models.sizes import Shape

CHANNELS = 3
"""Of the images of the shapes dataset, which is trained on pixels."""


def model_shape(run: RunConfig) -> Shape:
    """All sizes of a run's model.

    Args:
        run: the run.
    """
    return Shape(
        depth=run.model.depth,
        hidden=run.model.hidden,
        head_dim=HEAD_DIM,
        patch_dim=CHANNELS * run.model.patch**2,
        context_dim=TEXT_DIM,
        pooled_dim=TEXT_DIM,
        image_tokens=run.tokens_per_sample,
        text_tokens=MAX_TOKENS,
        qk_norm=run.model.qk_norm,
    )


def model_grid(run: RunConfig) -> tuple[int, int]:
    """Patches along height and width.

    Args:
        run: the run.
    """
    side = run.data.image_size // run.model.patch
    return side, side
