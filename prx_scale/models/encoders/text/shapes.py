"""The embedded encoder of the drawn shapes: fixed vectors of words, no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from prx_scale.data.shapes import text
from prx_scale.data.shapes.captions import MAX_TOKENS, VOCABULARY
from prx_scale.models.encoders.identity import TEXT_RECIPE, EncoderIdentity
from prx_scale.models.encoders.registry import TextSpec
from prx_scale.models.encoders.states import TextStates


class Shapes:
    """One of the two: single words, or words that know the one before them."""

    def __init__(self, *, spec: TextSpec, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Take a recipe.

        Args:
            spec: shapes-words or shapes.
            dtype: of the states.
            device: that states are on.
        """
        self.spec, self.dtype, self.device = spec, dtype, torch.device(device)

    def encode(self, captions: Sequence[str]) -> TextStates:
        """States of captions; "" encodes to zeros.

        Args:
            captions: in the words of the drawn shapes.

        Raises:
            InputError: a caption has unknown words or too many.
        """
        both, pooled = (torch.from_numpy(states).to(self.device, self.dtype) for states in text.encode(captions, 2))
        first = 0 if self.spec.name == "shapes-words" else MAX_TOKENS
        return TextStates(tokens=both[:, first : first + MAX_TOKENS], pooled=pooled)

    def identity(self) -> EncoderIdentity:
        """What its states depend on."""
        words = hashlib.sha256("\n".join(VOCABULARY).encode()).hexdigest()
        settings = {"recipe": TEXT_RECIPE, "vocabulary": words, "dtype": str(self.dtype).removeprefix("torch.")}
        return EncoderIdentity(name=self.spec.name, kind=self.spec.name, settings=settings)
