"""From a run's configuration to its model's sizes; needs no torch, so that a sweep can be priced anywhere."""

from __future__ import annotations

from prx_scale.config import RunConfig
from prx_scale.models.inputs import SD3, inputs_of
from prx_scale.models.mup import Parametrisation
from prx_scale.models.sizes import Shape
from prx_scale.runtables import HEAD_DIM, LATENT_DOWNSAMPLING, Model


def model_shape(run: RunConfig) -> Shape:
    """All sizes of a run's model.

    Args:
        run: the run.
    """
    inputs = inputs_of(run.data)
    table = position_side(run) ** 2
    return Shape(
        depth=run.model.depth,
        hidden=run.model.hidden,
        head_dim=HEAD_DIM,
        patch_dim=inputs.channels * run.model.patch**2,
        context_dim=inputs.context_dim,
        pooled_dim=inputs.pooled_dim,
        image_tokens=run.tokens_per_sample,
        text_tokens=inputs.text_tokens,
        qk_norm=run.model.qk_norm,
        weight_sets=run.model.weight_sets,
        learned_positions=table if run.model.positions == "learned" else 0,
        size_conditioning=run.model.size_conditioning,
    )


def parametrisation_of(model: Model) -> Parametrisation:
    """How a model's width and depth stand to those at which its hyperparameters were tuned.

    Args:
        model: of the run.
    """
    return Parametrisation(
        width=model.hidden, depth=model.depth, base_width=model.mup_base_width, base_depth=model.mup_base_depth
    )


def position_side(run: RunConfig) -> int:
    """Patches along one side of the table of positions, which images of any aspect ratio are cropped from.

    Args:
        run: the run.
    """
    return run.model.position_grid or run.grid_side


def sd3_shape(*, depth: int, width: int = 0, pixels: int, qk_norm: bool = True) -> Shape:
    """Sizes of the published model: latents of 16 channels, patches of 2 x 2, two weight sets, 154 text tokens.

    Args:
        depth: joint blocks.
        width: hidden size; 0 is 64 x depth.
        pixels: of an image, height x width.
        qk_norm: RMS-norm of queries and keys.
    """
    patch = 2
    return Shape(
        depth=depth,
        hidden=width or HEAD_DIM * depth,
        head_dim=HEAD_DIM,
        patch_dim=SD3.channels * patch**2,
        context_dim=SD3.context_dim,
        pooled_dim=SD3.pooled_dim,
        image_tokens=pixels // (LATENT_DOWNSAMPLING * patch) ** 2,
        text_tokens=SD3.text_tokens,
        qk_norm=qk_norm,
    )
