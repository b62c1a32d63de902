"""The joint block: every stream has weights of its own, and attends to the tokens of all (Esser et al. 2024, fig. 2).

Shape suffixes as in `prx_scale.models.mmdit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parallel.titan import Module
from prx_scale.models import functional, sizes
from prx_scale.models.functional import EPS, gated, gelu, modulate
from prx_scale.models.layers import Boundary, Linear, RMSNorm, linear_config
from prx_scale.models.mup import Parametrisation


class Stream(Module):
    """The weights that one stream, image or text, has in a joint block.

    In the last block the text stream is `pre_only`: it gives keys and values, and nothing reads what becomes of it.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        ada: Linear.Config
        q: Linear.Config
        k: Linear.Config
        v: Linear.Config
        out: Linear.Config | None
        mlp_in: Linear.Config | None
        mlp_out: Linear.Config | None
        qk_norm: RMSNorm.Config | None
        head_dim: int
        residual_multiplier: float = 1.0
        """Of what attention and MLP add to the stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.residual_multiplier = config.residual_multiplier
        self.pre_only = config.out is None
        self.ada = config.ada.build()
        self.q, self.k, self.v = config.q.build(), config.k.build(), config.v.build()
        self.q_norm = config.qk_norm.build() if config.qk_norm else None
        self.k_norm = config.qk_norm.build() if config.qk_norm else None
        self.leave_modulation, self.enter_attention, self.enter_mlp = Boundary(), Boundary(), Boundary()
        if config.out and config.mlp_in and config.mlp_out:
            self.out, self.mlp_in, self.mlp_out = config.out.build(), config.mlp_in.build(), config.mlp_out.build()

    def modulation(self, c_BD: Tensor) -> tuple[Tensor, ...]:
        """(shift, scale, gate, shift, scale, gate), each (B, D); only (shift, scale) where pre-only."""
        return self.leave_modulation(self.ada(c_BD)).chunk(2 if self.pre_only else 6, dim=-1)

    def heads(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, L, H, K) each; the number of heads follows from the local width."""
        x_BLD = self.enter_attention(x_BLD)
        q, k, v = (layer(x_BLD).unflatten(-1, (-1, self.head_dim)) for layer in (self.q, self.k, self.v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v

    def advance(self, x_BLD: Tensor, attended_BLD: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """The two gated residual updates that follow the attention."""
        _, _, gate_attention, shift, scale, gate_mlp = modulation
        r = self.residual_multiplier
        x_BLD = gated(x_BLD, gate_attention, self.out(attended_BLD), r)
        hidden = gelu(self.mlp_in(self.enter_mlp(modulate(x_BLD, shift, scale))))
        return gated(x_BLD, gate_mlp, self.mlp_out(hidden), r)


class JointAttention(Module):
    """softmax(q k^T scale) v over the tokens of all streams, but for the padding of text where that is masked."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        scale: float
        """Of the logits; 1/sqrt(width of a head) unless a parametrisation says otherwise."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale = config.scale

    def forward(self, q_BLHK: Tensor, k_BNHK: Tensor, v_BNHK: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """(B, L, H, K) queries over (B, N, H, K) keys and values, visible by (B, 1, 1, N) -> (B, L, H K)."""
        q, k, v = (x.transpose(1, 2) for x in (q_BLHK, k_BNHK, v_BNHK))
        return functional.attention(q, k, v, self.scale, mask).transpose(1, 2).flatten(2)


class JointBlock(Module):
    """One block: every stream attends to all tokens of all streams, then goes through its own MLP."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        image: Stream.Config
        text: Stream.Config
        text2: Stream.Config | None
        """With three weight sets, the second group of text tokens."""
        attention: JointAttention.Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.image = config.image.build()
        self.text = config.text.build()
        self.text2 = config.text2.build() if config.text2 else None
        self.attention = config.attention.build()
        self.image_keys = Boundary()

    def forward(
        self, c_BD: Tensor, image_BLD: Tensor, *texts_BLD: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance all streams.

        Args:
            c_BD: SiLU of the condition vector.
            image_BLD: image tokens.
            texts_BLD: text tokens, a tensor for each of their weight sets.
            mask: (B, 1, 1, N), true at the keys that are visible, of the image and then of the texts; None: all are.

        Returns:
            The image stream and the text streams; these unchanged where this is the last block.
        """
        streams = (self.image, self.text) if self.text2 is None else (self.image, self.text, self.text2)
        tokens = (image_BLD, *texts_BLD)
        modulations = [stream.modulation(c_BD) for stream in streams]
        heads = [
            stream.heads(modulate(x_BLD, *modulation[:2]))
            for stream, x_BLD, modulation in zip(streams, tokens, modulations, strict=True)
        ]
        lengths = [queries.shape[1] for queries, _, _ in heads]
        heads[0] = (heads[0][0], *self.image_keys(*heads[0][1:]))
        q, k, v = (torch.cat(parts, dim=1) for parts in zip(*heads, strict=True))
        attended = self.attention(q, k, v, mask=mask).split(lengths, dim=1)
        return tuple(
            x_BLD if stream.pre_only else stream.advance(x_BLD, mine, modulation)
            for stream, x_BLD, mine, modulation in zip(streams, tokens, attended, modulations, strict=True)
        )


def stream_config(shape: sizes.Shape, *, pre_only: bool, residual_multiplier: float) -> Stream.Config:
    """One stream of a block.

    Args:
        shape: of the model.
        pre_only: only keys and values are wanted of it.
        residual_multiplier: of what attention and MLP add.
    """
    h = shape.hidden
    return Stream.Config(
        ada=linear_config(h, 2 * h if pre_only else 6 * h),
        q=linear_config(h, h),
        k=linear_config(h, h),
        v=linear_config(h, h),
        out=None if pre_only else linear_config(h, h),
        mlp_in=None if pre_only else linear_config(h, 4 * h),
        mlp_out=None if pre_only else linear_config(4 * h, h),
        qk_norm=RMSNorm.Config(normalized_shape=shape.head_dim, eps=EPS) if shape.qk_norm else None,
        head_dim=shape.head_dim,
        residual_multiplier=residual_multiplier,
    )


def block_config(shape: sizes.Shape, parametrisation: Parametrisation, *, last: bool) -> JointBlock.Config:
    """One block.

    Args:
        shape: of the model.
        parametrisation: says its multipliers.
        last: nothing reads its text streams.
    """
    r = parametrisation.residual_multiplier
    return JointBlock.Config(
        image=stream_config(shape, pre_only=False, residual_multiplier=r),
        text=stream_config(shape, pre_only=last, residual_multiplier=r),
        text2=stream_config(shape, pre_only=last, residual_multiplier=r) if shape.weight_sets == 3 else None,
        attention=JointAttention.Config(scale=parametrisation.attention_scale(shape.head_dim)),
    )
