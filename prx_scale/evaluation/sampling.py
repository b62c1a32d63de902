"""Images of captions from a trained backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prx_scale.config import RunConfig
from prx_scale.data.shapes.text import encode
from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.diffusion.samplers import Velocity, euler, guided
from prx_scale.models.inputs import inputs_of
from prx_scale.models.mmdit import MMDiT

IMAGES_AT_ONCE = 128


@torch.inference_mode()
def sample(
    model: MMDiT, run: RunConfig, captions: Sequence[str], advance: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """Sample an image per caption; image i starts from the same noise in every run.

    Args:
        model: the backbone.
        run: says sampler, steps, guidance and seed in its [evaluation].
        captions: B captions.
        advance: is told the number of images as they are made.

    Returns:
        (B, C, H, W), about [-1, 1].
    """
    size, channels = run.data.image_size // run.data.downsampling, inputs_of(run.data).channels
    device = next(model.parameters()).device
    made: list[NDArray[np.float32]] = []
    for start in range(0, len(captions), IMAGES_AT_ONCE):
        part = list(captions[start : start + IMAGES_AT_ONCE])
        indices = np.arange(start, start + len(part))
        noise = draw(run.evaluation.seed, Purpose.SAMPLING, indices, (channels, size, size)).noise
        velocity = guided_velocity(model, part, run.evaluation.guidance, run.data.encoders)
        images = euler(velocity, torch.from_numpy(noise).to(device), run.evaluation.steps, run.shift)
        made.append(images.cpu().numpy())
        if advance:
            advance(len(part))
    return np.concatenate(made)


def guided_velocity(model: MMDiT, captions: Sequence[str], guidance: float, encoders: int = 1) -> Velocity:
    """The model's velocity under captions, guided away from the empty condition, which is all zeros.

    Args:
        model: the backbone.
        captions: B captions.
        guidance: 1 is unguided.
        encoders: text encoders that the model was trained with.
    """
    device = next(model.parameters()).device
    context, pooled = (torch.from_numpy(states).to(device) for states in encode(captions, encoders))

    def under(context: Tensor, pooled: Tensor) -> Velocity:
        return lambda z, t: model(z, t=t, context=context, pooled=pooled)

    empty = under(torch.zeros_like(context), torch.zeros_like(pooled))
    return guided(under(context, pooled), empty, guidance)
