"""What text encoders give: states of tokens, a pooled state, and which tokens are real."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prx_scale.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """Of B captions."""

    tokens: Tensor
    """(B, L, D)."""
    pooled: Tensor
    """(B, P); P is 0 where there is no pooled state."""
    mask: Tensor | None = None
    """(B, L), true at real tokens; behind them states are zero. None: every token counts, padding too."""

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, start: int, stop: int) -> TextStates:
        """Of some of the captions.

        Args:
            start: first of them.
            stop: one past the last.
        """
        mask = None if self.mask is None else self.mask[start:stop]
        return TextStates(tokens=self.tokens[start:stop], pooled=self.pooled[start:stop], mask=mask)

    def to(self, device: torch.device | str) -> TextStates:
        """The same on another device.

        Args:
            device: cpu, cuda, cuda:1 ...
        """
        mask = None if self.mask is None else self.mask.to(device)
        return TextStates(tokens=self.tokens.to(device), pooled=self.pooled.to(device), mask=mask)


def check_right_padded(mask: Tensor, where: str) -> None:
    """Whether real tokens come first. States that were cut to them can only be filled up again behind them.

    Args:
        mask: (B, L), true at real tokens.
        where: file, for errors.

    Raises:
        InputError: names the first row that has padding before a real token.
    """
    broken = (mask[:, 1:] & ~mask[:, :-1]).any(dim=1)
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise InputError(f"{where}: row {row} of the mask has padding before a token; it belongs on the right")
