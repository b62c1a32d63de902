"""Token ids of captions, padded on the right whatever side the tokenizer would choose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STEP = 64
"""Masked encoders run at a multiple of this many tokens."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Ids of B captions, and which are real."""

    ids: Tensor
    """(B, L), int64."""
    mask: Tensor
    """(B, L), true at real tokens, which come first."""


def token_ids(tokenizer: Any, texts: Sequence[str], length: int) -> list[list[int]]:
    """Ids of texts, with the tokenizer's own beginning and end, cut to a length.

    Args:
        tokenizer: of transformers.
        texts: cleaned captions.
        length: the most that is kept.
    """
    return tokenizer(list(texts), padding=False, truncation=True, max_length=length, return_attention_mask=False)[
        "input_ids"
    ]


def padded(ids: Sequence[Sequence[int]], length: int, pad: int) -> Tokens:
    """Fill up to one length.

    Args:
        ids: of each caption, at most `length`.
        length: L.
        pad: id of padding.
    """
    filled = torch.tensor([[*row, *[pad] * (length - len(row))] for row in ids], dtype=torch.int64)
    real = torch.tensor([len(row) for row in ids])
    return Tokens(ids=filled.reshape(len(ids), length), mask=torch.arange(length) < real[:, None])


def rows_by_length(ids: Sequence[Sequence[int]], length: int) -> Mapping[int, list[int]]:
    """Which captions run together: those that need the same number of steps.

    The length at which a caption runs follows from itself alone, not from its neighbours in a batch, so that its states
    do not depend on them beyond the rounding of a product's sums.

    Args:
        ids: of each caption.
        length: the most there may be.

    Returns:
        Rows by the length that they run at.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(ids):
        rows[min(length, max(1, -(-len(row) // STEP)) * STEP)].append(number)
    return rows
