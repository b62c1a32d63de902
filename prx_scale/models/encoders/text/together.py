"""Several frozen text encoders side by side: one context and one pooled state for the backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from prx_scale.errors import InputError
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.base import FrozenText
from prx_scale.models.inputs import Inputs


def place(parts: Sequence[TextStates], inputs: Inputs) -> TextStates:
    """Lay the states of encoders into the context, each in its range of tokens and channels; zeros elsewhere.

    With CLIP-L, bigG and T5 in SD3's ranges this is SD3's context (Esser et al. 2024).

    Args:
        parts: of each encoder, in the order of `inputs.encoders`, for the same captions.
        inputs: the ranges.

    Raises:
        InputError: states are not of the size of their range.
    """
    count, like = len(parts[0]), parts[0].tokens
    tokens = like.new_zeros(count, inputs.text_tokens, inputs.context_dim)
    pooled = like.new_zeros(count, inputs.pooled_dim)
    mask = torch.zeros(count, inputs.text_tokens, dtype=torch.bool, device=like.device)
    for encoder, part in zip(inputs.encoders, parts, strict=True):
        (first, last), (low, high) = encoder.tokens, encoder.channels
        if part.tokens.shape != (count, last - first, high - low):
            found, wanted = tuple(part.tokens.shape), (count, last - first, high - low)
            raise InputError(f"text states of '{encoder.name}' are of shape {found}; its place takes {wanted}")
        tokens[:, first:last, low:high] = part.tokens
        mask[:, first:last] |= True if part.mask is None else part.mask
        if encoder.pooled[1]:
            pooled[:, slice(*encoder.pooled)] = part.pooled
    masked = any(part.mask is not None for part in parts)
    return TextStates(tokens=tokens, pooled=pooled, mask=mask if masked else None)


class TextEncoders:
    """Frozen text encoders whose states a backbone is given together."""

    def __init__(self, encoders: Sequence[FrozenText], inputs: Inputs) -> None:
        """Put encoders into the order of their places.

        Args:
            encoders: loaded, on one device.
            inputs: of `inputs_of_encoders` for the same ones.

        Raises:
            InputError: they are not those that have a place.
        """
        by_name = {encoder.spec.name: encoder for encoder in encoders}
        names = [encoder.name for encoder in inputs.encoders]
        if sorted(by_name) != sorted(names):
            raise InputError(f"text encoders {', '.join(by_name)} are loaded; the model takes {', '.join(names)}")
        self.encoders, self.inputs = tuple(by_name[name] for name in names), inputs

    def encode(self, captions: Sequence[str]) -> TextStates:
        """States of captions, on the encoders' device.

        Args:
            captions: B of them, all at once.
        """
        return place([encoder.encode(captions) for encoder in self.encoders], self.inputs)
