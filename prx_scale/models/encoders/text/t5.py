"""T5's encoder as SD3 reads it (Esser et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.base import Pretrained
from prx_scale.models.encoders.text.tokens import padded, token_ids


class T5(Pretrained):
    """States of the last layer, with the final norm. Padding is read like any token; there is no pooled state."""

    def _encode(self, texts: Sequence[str]) -> TextStates:
        ids = padded(token_ids(self.tokenizer, texts, self.spec.tokens), self.spec.tokens, self.pad).ids
        tokens = self.model(ids.to(self.device)).last_hidden_state
        return TextStates(tokens=tokens, pooled=tokens.new_zeros(len(tokens), 0))
