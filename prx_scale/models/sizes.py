"""Parameters and FLOPs of an MM-DiT in closed form, so that a study can be priced where torch is not installed.

One multiply-add counts as two FLOPs. A training step costs three forward passes (no recomputation counted).
"""

from __future__ import annotations

from dataclasses import dataclass

TIME_FREQUENCIES = 256
"""Width of the sinusoidal time embedding before its MLP."""
SIZE_FREQUENCIES = 256
"""Width of the sinusoids of one size in pixels."""
SIZES = 6
"""Numbers of `prx_scale.data.framing.Framing.conditioning`, which stores keep and size-conditioned models are told."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """All sizes that decide an MM-DiT's parameters and FLOPs."""

    depth: int
    hidden: int
    head_dim: int
    patch_dim: int
    """Values in one patch: channels x patch x patch."""
    context_dim: int
    """Width of the text encoder's token states."""
    pooled_dim: int
    """Width of the text encoder's pooled state; 0 where there is none, and nothing embeds it."""
    image_tokens: int
    text_tokens: int
    qk_norm: bool
    weight_sets: int = 2
    """One for the image and one for each group of text tokens that has weights of its own."""
    learned_positions: int = 0
    """Entries of a trained table of positions; 0 where positions are fixed sinusoids."""
    size_conditioning: bool = False
    """It is told the sizes and the crop of the image."""

    @property
    def text_sets(self) -> int:
        """Weight sets of text tokens."""
        return self.weight_sets - 1


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Trainable parameters by part."""

    blocks: int
    final: int
    patch_embed: int
    time_embed: int
    pooled_embed: int
    size_embed: int
    context_embed: int
    positions: int

    @property
    def backbone(self) -> int:
        """Blocks and final layer."""
        return self.blocks + self.final

    @property
    def embedding(self) -> int:
        """Everything that only brings inputs to the hidden width."""
        conditions = self.time_embed + self.pooled_embed + self.size_embed
        return self.patch_embed + conditions + self.context_embed + self.positions


def parameters(shape: Shape) -> ParameterCounts:
    """Trainable parameters of an MM-DiT.

    With h the hidden size, a block has 18 h^2 + 15 h for each weight set (adaLN, q, k, v, out and MLP), and in the last
    one 5 h^2 + 5 h for each of text, which feeds nothing after the attention; QK-norm adds two vectors of a head's
    width for each. With two sets and SD3's input sizes the sum is (36 d - 9) h^2 + (30 d + 6526) h + 64 + 256 d for
    depth d (Esser et al. 2024), without an embedder of sizes, which has h^2 + (6 * 256 + 2) h.

    Args:
        shape: the model's sizes.
    """
    d, h, sets = shape.depth, shape.hidden, shape.weight_sets
    stream, last_text = 18 * h**2 + 15 * h, 5 * h**2 + 5 * h
    norms = 2 * sets * shape.head_dim if shape.qk_norm else 0
    return ParameterCounts(
        blocks=(d - 1) * sets * stream + stream + shape.text_sets * last_text + d * norms,
        final=2 * h**2 + 2 * h + shape.patch_dim * (h + 1),
        patch_embed=(shape.patch_dim + 1) * h,
        time_embed=h**2 + (TIME_FREQUENCIES + 2) * h,
        pooled_embed=h**2 + (shape.pooled_dim + 2) * h if shape.pooled_dim else 0,
        size_embed=h**2 + (SIZES * SIZE_FREQUENCIES + 2) * h if shape.size_conditioning else 0,
        context_embed=(shape.context_dim + 1) * h,
        positions=shape.learned_positions * h,
    )


def forward_flops(shape: Shape) -> int:
    """FLOPs of one forward pass of one image: all matrix products, attention over all tokens included.

    Per image token and block 24 h^2 (q, k, v, out, MLP); the same per text token, of which the last block only needs
    6 h^2; attention 4 N^2 h a block, masked keys among them; adaLN and the embedders of conditions once an image.
    Agrees to the integer with torch's FLOP counter.

    Args:
        shape: the model's sizes.
    """
    d, h = shape.depth, shape.hidden
    image, text = shape.image_tokens, shape.text_tokens
    streams = 24 * d * h**2 * image + 24 * (d - 1) * h**2 * text + 6 * h**2 * text
    attention = 4 * d * (image + text) ** 2 * h
    modulation = 12 * d * h**2 + shape.text_sets * (12 * (d - 1) * h**2 + 4 * h**2)
    patches = 4 * shape.patch_dim * h * image
    context = 2 * shape.context_dim * h * text
    pooled = 2 * (shape.pooled_dim * h + h**2) if shape.pooled_dim else 0
    told = 2 * (SIZES * SIZE_FREQUENCIES * h + h**2) if shape.size_conditioning else 0
    conditions = 2 * (TIME_FREQUENCIES * h + h**2) + pooled + told + 4 * h**2
    return streams + attention + modulation + patches + context + conditions


def training_flops(shape: Shape) -> int:
    """FLOPs of training on one image: three forward passes.

    Args:
        shape: the model's sizes.
    """
    return 3 * forward_flops(shape)
