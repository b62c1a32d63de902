"""CLIP's text towers as SD3 reads them (Esser et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.base import Pretrained
from prx_scale.models.encoders.text.tokens import padded, token_ids


class Clip(Pretrained):
    """States of the last layer but one, without the final norm; the pooled state is that of the end of the text.

    The pooled state has the final norm; the recipe says whether it goes through the text projection. (Pipelines of SD3
    hold an identity as CLIP-L's projection, and the projection as bigG's.) Padding is read like any token.
    """

    def _encode(self, texts: Sequence[str]) -> TextStates:
        ids = padded(token_ids(self.tokenizer, texts, self.spec.tokens), self.spec.tokens, self.pad).ids
        found = self.model(ids.to(self.device), output_hidden_states=True)
        pooled = found.text_embeds if self.spec.projected else found.pooler_output
        return TextStates(tokens=found.hidden_states[-2], pooled=pooled)
