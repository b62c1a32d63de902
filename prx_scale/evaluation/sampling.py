"""Images of captions from a trained backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from prx_scale.config import RunConfig
from prx_scale.data.shapes.text import encode
from prx_scale.diffusion.draws import Purpose, draw
from prx_scale.diffusion.samplers import Velocity, euler, guided
from prx_scale.models.encoders.dropping import without_condition
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.inputs import Inputs, inputs_of
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
    size, inputs = run.data.image_size // run.data.downsampling, inputs_of(run.data)
    device = next(model.parameters()).device
    made: list[NDArray[np.float32]] = []
    for start in range(0, len(captions), IMAGES_AT_ONCE):
        part = list(captions[start : start + IMAGES_AT_ONCE])
        indices = np.arange(start, start + len(part))
        noise = draw(run.evaluation.seed, Purpose.SAMPLING, indices, (inputs.channels, size, size)).noise
        tokens, pooled = (torch.from_numpy(states) for states in encode(part, run.data.encoders))
        text = TextStates(tokens=tokens, pooled=pooled).to(device)
        velocity = guided_velocity(model, text, inputs, run.evaluation.guidance)
        images = euler(velocity, torch.from_numpy(noise).to(device), run.evaluation.steps, run.shift)
        made.append(images.cpu().numpy())
        if advance:
            advance(len(part))
    return np.concatenate(made)


def guided_velocity(model: MMDiT, text: TextStates, inputs: Inputs, guidance: float) -> Velocity:
    """The model's velocity under captions, guided away from the empty condition: what training drops captions to.

    Args:
        model: the backbone.
        text: states of B captions, on the model's device.
        inputs: which encoder fills which part of them.
        guidance: 1 is unguided.
    """

    def under(text: TextStates) -> Velocity:
        return lambda z, t: model(z, t=t, context=text.tokens, pooled=text.pooled, mask=text.mask)

    return guided(under(text), under(without_condition(text, inputs)), guidance)
