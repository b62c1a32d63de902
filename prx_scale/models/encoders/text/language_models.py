"""T5Gemma's encoder, Gemma, and Qwen2.5-VL: last hidden states, padding masked."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from prx_scale.models.encoders.text.base import Masked


class Gemma(Masked):
    """The encoder of a T5Gemma, or a Gemma, which reads from left to right: last hidden states, with the final norm."""

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


class QwenVL(Masked):
    """The language model of a Qwen2.5-VL under Qwen-Image's template (Wu et al. 2025).

    What comes before the caption in the template is read, and its states are dropped. The model reads from left to
    right, so that cutting a long prompt does not change the states before the cut.
    """

    def prompt(self, text: str) -> str:
        """The template with the caption in it; braces in captions are text."""
        before, after = self.spec.template.split("{}")
        return f"{before}{text}{after}"

    @cached_property
    def _prefix(self) -> int:
        before, _ = self.spec.template.split("{}")
        return len(self.tokenizer(before)["input_ids"])

    def skipped(self) -> int:
        """Tokens before the caption."""
        return self._prefix

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
