"""What a dataset feeds to a backbone: channels, and which text encoder fills which part of the text states."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.data.shapes.captions import MAX_TOKENS
from prx_scale.data.shapes.text import TEXT_DIM
from prx_scale.runtables import Data

MASKED = "masked"
"""Ends the line of an encoder whose padding is masked."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """The part of the text states that one encoder fills; a half-open range along each axis.

    Encoders may share tokens, each with channels of its own, as SD3's two CLIPs do.
    """

    name: str
    tokens: tuple[int, int]
    channels: tuple[int, int]
    pooled: tuple[int, int] = (0, 0)
    """Its part of the pooled state; empty where it gives none."""
    masked: bool = False
    """Nothing attends to its padding, and it has no tokens where it is dropped; else padding is read like any token."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Sizes of images, or latents, and of text states."""

    channels: int
    context_dim: int
    """Width of the token states of the text."""
    pooled_dim: int
    """Width of the pooled state of the text; 0 where no encoder gives one."""
    encoders: tuple[TextEncoder, ...]

    @property
    def text_tokens(self) -> int:
        """Length of the context, over all encoders."""
        return max(encoder.tokens[1] for encoder in self.encoders)

    @property
    def masked(self) -> bool:
        """Whether a model is told which text tokens are real."""
        return any(encoder.masked for encoder in self.encoders)

    @property
    def token_groups(self) -> tuple[int, ...]:
        """Lengths of the token ranges that encoders have to themselves, in order: (77, 77) for CLIP and T5."""
        ranges = sorted({encoder.tokens for encoder in self.encoders})
        return tuple(stop - start for start, stop in ranges)


SHAPES = Inputs(
    channels=3,
    context_dim=TEXT_DIM,
    pooled_dim=TEXT_DIM,
    encoders=(TextEncoder(name="context", tokens=(0, MAX_TOKENS), channels=(0, TEXT_DIM), pooled=(0, TEXT_DIM)),),
)
"""Pixels of drawn shapes; one embedded encoder gives tokens that know their neighbours, and the pooled state."""

SHAPES_TWO_ENCODERS = Inputs(
    channels=3,
    context_dim=TEXT_DIM,
    pooled_dim=TEXT_DIM,
    encoders=(
        TextEncoder(name="words", tokens=(0, MAX_TOKENS), channels=(0, TEXT_DIM), pooled=(0, TEXT_DIM)),
        TextEncoder(name="context", tokens=(MAX_TOKENS, 2 * MAX_TOKENS), channels=(0, TEXT_DIM)),
    ),
)
"""The same with two encoders, as SD3 has CLIP and T5: one of single words, which also pools, and one of context."""

SD3 = Inputs(
    channels=16,
    context_dim=4096,
    pooled_dim=768 + 1280,
    encoders=(
        TextEncoder(name="clip-l", tokens=(0, 77), channels=(0, 768), pooled=(0, 768)),
        TextEncoder(name="clip-g", tokens=(0, 77), channels=(768, 2048), pooled=(768, 2048)),
        TextEncoder(name="t5", tokens=(77, 154), channels=(0, 4096)),
    ),
)
"""Latents of 16 channels; two CLIPs side by side in the first 77 tokens, T5 in the next 77 (Esser et al. 2024)."""


def inputs_of(data: Data) -> Inputs:
    """What a run's data feeds to its model.

    Args:
        data: the [data] table.
    """
    if data.encoded:
        return _stored(data)
    if data.dataset == "random":
        return SD3
    return SHAPES if data.encoders == 1 else SHAPES_TWO_ENCODERS


def _stored(data: Data) -> Inputs:
    channels, context, pooled = (int(data.said(name)[0][0]) for name in ("channels", "context", "pooled"))
    return Inputs(
        channels=channels,
        context_dim=context,
        pooled_dim=pooled,
        encoders=tuple(_stored_encoder(words) for words in data.said("text")),
    )


def _stored_encoder(words: list[str]) -> TextEncoder:
    name, ranges, masked = words[0], [int(word) for word in words[1:7]], words[7:] == [MASKED]
    tokens, channels, pooled = ((ranges[at], ranges[at + 1]) for at in (0, 2, 4))
    return TextEncoder(name=name, tokens=tokens, channels=channels, pooled=pooled, masked=masked)
