"""What all frozen text encoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from prx_scale.models.encoders.identity import TEXT_RECIPE, EncoderIdentity, content_of
from prx_scale.models.encoders.locating import Located
from prx_scale.models.encoders.registry import TextSpec
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.encoders.text.cleaning import Cleaning, clean
from prx_scale.models.encoders.text.tokens import padded, rows_by_length, token_ids


class FrozenText(Protocol):
    """A frozen text encoder."""

    @property
    def spec(self) -> TextSpec:
        """Its sizes, and how captions become states."""
        ...

    @property
    def device(self) -> torch.device:
        """That it runs on."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its states."""
        ...

    def encode(self, captions: Sequence[str]) -> TextStates:
        """States of captions, on the encoder's device.

        Args:
            captions: B of them, all at once.
        """
        ...

    def identity(self) -> EncoderIdentity:
        """What its states depend on."""
        ...


class Pretrained(ABC):
    """A text encoder of transformers."""

    def __init__(
        self, *, spec: TextSpec, located: Located, model: Any, tokenizer: Any, cleaning: Cleaning = "none"
    ) -> None:
        """Bring together what was loaded.

        Args:
            spec: with the sizes of the weights.
            located: where they were.
            model: frozen.
            tokenizer: its tokenizer.
            cleaning: of captions.
        """
        self.spec, self.located = spec, located
        self.cleaning: Cleaning = cleaning
        self.model, self.tokenizer = model, tokenizer
        self.pad: int = tokenizer.eos_token_id if spec.pad == "eos" else spec.pad

    @property
    def device(self) -> torch.device:
        """That it runs on."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its states."""
        return self.model.dtype

    def encode(self, captions: Sequence[str]) -> TextStates:
        """States of captions, on the encoder's device.

        Args:
            captions: B of them, all at once.
        """
        # Not inference mode: a backbone that is trained keeps these states for its backward pass.
        with torch.no_grad():
            return self._encode([clean(caption, self.cleaning) for caption in captions])

    @abstractmethod
    def _encode(self, texts: Sequence[str]) -> TextStates: ...

    def settings(self) -> dict[str, Any]:
        """Settings of preprocessing that the states depend on."""
        spec = self.spec
        return {
            "recipe": TEXT_RECIPE,
            "tokens": spec.tokens,
            "pad": self.pad,
            "padding_side": spec.padding_side,
            "masked": spec.masked,
            "projected": spec.projected,
            "template": spec.template,
            "cleaning": self.cleaning,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def identity(self) -> EncoderIdentity:
        """What its states depend on."""
        spec = self.spec
        return EncoderIdentity(name=spec.name, kind=spec.kind, files=content_of(self.located), settings=self.settings())


class Masked(Pretrained):
    """An encoder that padding is masked in: states of real tokens, and zeros behind them."""

    def _encode(self, texts: Sequence[str]) -> TextStates:
        skipped = self.skipped()
        length = self.spec.tokens + skipped
        ids = token_ids(self.tokenizer, [self.prompt(text) for text in texts], length)
        tokens = torch.zeros(len(ids), self.spec.tokens, self.spec.width, dtype=self.dtype, device=self.device)
        for run_at, rows in rows_by_length(ids, length).items():
            part = padded([ids[row] for row in rows], run_at, self.pad)
            mask = part.mask.to(self.device)
            states = self._states(part.ids.to(self.device), mask).masked_fill(~mask[..., None], 0)
            tokens[rows, : run_at - skipped] = states[:, skipped:]
        real = torch.tensor([max(0, len(row) - skipped) for row in ids], device=self.device)
        mask = torch.arange(self.spec.tokens, device=self.device) < real[:, None]
        return TextStates(tokens=tokens, pooled=tokens.new_zeros(len(ids), 0), mask=mask)

    def prompt(self, text: str) -> str:
        """What the tokenizer is given.

        Args:
            text: a cleaned caption.
        """
        return text

    def skipped(self) -> int:
        """Tokens at the beginning whose states are dropped."""
        return 0

    @abstractmethod
    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Last hidden states (b, l, D)."""
