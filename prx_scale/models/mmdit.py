"""MM-DiT: joint attention over image and text tokens, each stream with weights of its own (Esser et al. 2024, fig. 2).

Shape suffixes: B images, L tokens of one stream, N tokens of both, D hidden, H heads, K width of a head, P values of a
patch. Every module is a TorchTitan module built from its Config, and the blocks are in `layers`, where TorchTitan's
activation checkpointing looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parallel.tensor import Plan
from parallel.titan import BaseModel, Module, ModuleDict
from prx_scale.config import RunConfig
from prx_scale.models import functional, sizes
from prx_scale.models.build import model_shape, parametrisation_of, position_side
from prx_scale.models.embeddings import PositionGrid, centre_crop, time_frequencies
from prx_scale.models.functional import EPS, gated, gelu, modulate
from prx_scale.models.initial import initialise
from prx_scale.models.inputs import inputs_of
from prx_scale.models.layers import Boundary, Linear, RMSNorm
from prx_scale.models.mup import Parametrisation
from prx_scale.models.spread import context_plan, tensor_plan


def _linear(inputs: int, outputs: int) -> Linear.Config:
    return Linear.Config(in_features=inputs, out_features=outputs, bias=True)


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
    """softmax(q k^T scale) v over the tokens of all streams, without a mask."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        scale: float
        """Of the logits; 1/sqrt(width of a head) unless a parametrisation says otherwise."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale = config.scale

    def forward(self, q_BLHK: Tensor, k_BNHK: Tensor, v_BNHK: Tensor) -> Tensor:
        """(B, L, H, K) queries over (B, N, H, K) keys and values -> (B, L, H K)."""
        q, k, v = (x.transpose(1, 2) for x in (q_BLHK, k_BNHK, v_BNHK))
        return functional.attention(q, k, v, self.scale).transpose(1, 2).flatten(2)


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

    def forward(self, c_BD: Tensor, image_BLD: Tensor, *texts_BLD: Tensor) -> tuple[Tensor, ...]:
        """Advance all streams.

        Args:
            c_BD: SiLU of the condition vector.
            image_BLD: image tokens.
            texts_BLD: text tokens, a tensor for each of their weight sets.

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
        attended = self.attention(q, k, v).split(lengths, dim=1)
        return tuple(
            x_BLD if stream.pre_only else stream.advance(x_BLD, mine, modulation)
            for stream, x_BLD, mine, modulation in zip(streams, tokens, attended, modulations, strict=True)
        )


class PositionTable(Module):
    """A trained position for each place of the grid."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        side: int
        width: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.side, config.side, config.width))

    def forward(self, rows: int, columns: int) -> Tensor:
        """(rows * columns, D) positions of an image of that many patches."""
        return centre_crop(self.weight, rows, columns)


class Embedder(Module):
    """Linear, SiLU, Linear: brings a condition to the hidden width."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        first: Linear.Config
        second: Linear.Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first, self.second = config.first.build(), config.second.build()

    def forward(self, x: Tensor) -> Tensor:
        """(B, any) -> (B, D)."""
        return self.second(F.silu(self.first(x)))


class FinalLayer(Module):
    """Modulated layer norm and the projection to patches."""

    @dataclass(kw_only=True, slots=True)
    class Config(Module.Config):
        ada: Linear.Config
        linear: Linear.Config
        input_multiplier: float = 1.0
        """Of what the projection reads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_multiplier = config.input_multiplier
        self.ada, self.linear = config.ada.build(), config.linear.build()

    def forward(self, x_BLD: Tensor, c_BD: Tensor) -> Tensor:
        """(B, L, D) and (B, D) -> (B, L, P)."""
        shift, scale = self.ada(c_BD).chunk(2, dim=-1)
        x_BLD = modulate(x_BLD, shift, scale)
        return self.linear(x_BLD if self.input_multiplier == 1 else x_BLD * self.input_multiplier)


class MMDiT(BaseModel):
    """The backbone: predicts the velocity eps - x0 of a noisy image from its time and its text."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseModel.Config):
        shape: sizes.Shape
        channels: int
        patch: int
        text_split: tuple[int, ...]
        """Text tokens of each of their weight sets, in the order of the context."""
        grid: PositionGrid
        patch_embed: Linear.Config
        time_embed: Embedder.Config
        pooled_embed: Embedder.Config
        context_embed: Linear.Config
        position_table: PositionTable.Config | None
        blocks: list[JointBlock.Config]
        final: FinalLayer.Config
        parametrisation: Parametrisation
        seed: int = 0
        """Of the initial weights."""

        def update_from_config(self, *, config: Any, **kwargs: Any) -> None:
            """The run's seed decides the initial weights."""
            self.seed = config.debug.seed or 0

        def get_nparams_and_flops(self, model: Module, seq_len: int) -> tuple[int, int]:
            """Parameters, and training FLOPs per image token.

            Args:
                model: built from this configuration.
                seq_len: image tokens of one image.
            """
            return sum(p.numel() for p in model.parameters()), sizes.training_flops(self.shape) // seq_len

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = config.patch_embed.build()
        self.time_embed = config.time_embed.build()
        self.pooled_embed = config.pooled_embed.build()
        self.context_embed = config.context_embed.build()
        self.layers = ModuleDict({str(i): block.build() for i, block in enumerate(config.blocks)})
        self.final = config.final.build()
        self.split_context, self.split_sequence = Boundary(), Boundary()
        self.join_sequence, self.join_context = Boundary(), Boundary()
        self.position_table = config.position_table.build() if config.position_table else None
        if self.position_table is None:
            side = config.grid.side
            self.register_buffer("positions", torch.empty(side, side, config.shape.hidden), persistent=False)

    def init_states(self, *, buffer_device: torch.device | None = None) -> None:
        """Initial weights by parameter name, the same in every layout; fixed positions are recomputed."""
        table = self.config.grid.table(self.config.shape.hidden)
        initialise(self, self.config.seed, table, self.config.parametrisation)
        if self.position_table is None:
            self.positions = table.to(buffer_device or self.positions.device)

    def forward(self, z: Tensor, *, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            z: (B, C, height, width) noisy images or latents, of any aspect ratio that the positions cover.
            t: (B,) times in [0, 1]; 0 is data, 1 is noise.
            context: (B, L, context_dim) text token states.
            pooled: (B, pooled_dim) pooled text states.

        Returns:
            (B, C, height, width) velocity, the estimate of eps - x0, in float32.
        """
        # Under mixed precision the gathered weights say in which type the products run.
        dtype = self.patch_embed.weight.dtype
        time = time_frequencies(t.float(), sizes.TIME_FREQUENCIES).to(dtype)
        c_BD = F.silu(self.time_embed(time) + self.pooled_embed(pooled.to(dtype)))
        grid = (z.shape[2] // self.config.patch, z.shape[3] // self.config.patch)
        image_BLD = self.patch_embed(self.patchify(z.to(dtype))) + self.positions_of(*grid).to(dtype)
        texts_BLD = self.context_embed(context.to(dtype)).split(self.config.text_split, dim=1)
        image_BLD = self.split_sequence(self.split_context(image_BLD))
        for block in self.layers.values():
            image_BLD, *texts_BLD = block(c_BD, image_BLD, *texts_BLD)
        velocity_BLP = self.join_context(self.final(self.join_sequence(image_BLD), c_BD))
        return self.unpatchify(velocity_BLP, *grid).float()

    def positions_of(self, rows: int, columns: int) -> Tensor:
        """(rows * columns, D) positions of an image of that many patches.

        Raises:
            ValueError: the image is larger than the table of positions.
        """
        if self.position_table is not None:
            return self.position_table(rows, columns)
        return centre_crop(self.positions, rows, columns)

    def tensor_plan(self, *, sequence: bool) -> Plan:
        """How tensor parallelism shares this model out (`parallel.parallelize.Spreadable`)."""
        return tensor_plan(self, sequence=sequence)

    def context_plan(self) -> Plan:
        """How context parallelism shares this model out (`parallel.parallelize.Spreadable`)."""
        return context_plan(self)

    def patchify(self, z: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, L, P), row by row, a patch's values ordered (channel, row, column)."""
        p = self.config.patch
        return F.unfold(z, kernel_size=p, stride=p).transpose(1, 2) if p > 1 else z.flatten(2).transpose(1, 2)

    def unpatchify(self, x_BLP: Tensor, rows: int, columns: int) -> Tensor:
        """(B, L, P) -> (B, C, height, width); a patch's outputs are ordered (row, column, channel), as SD3's are."""
        p, channels = self.config.patch, self.config.channels
        x = x_BLP.unflatten(2, (p, p, channels)).unflatten(1, (rows, columns))
        return x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], channels, rows * p, columns * p)


def _stream(shape: sizes.Shape, *, pre_only: bool, residual_multiplier: float) -> Stream.Config:
    h = shape.hidden
    return Stream.Config(
        ada=_linear(h, 2 * h if pre_only else 6 * h),
        q=_linear(h, h),
        k=_linear(h, h),
        v=_linear(h, h),
        out=None if pre_only else _linear(h, h),
        mlp_in=None if pre_only else _linear(h, 4 * h),
        mlp_out=None if pre_only else _linear(4 * h, h),
        qk_norm=RMSNorm.Config(normalized_shape=shape.head_dim, eps=EPS) if shape.qk_norm else None,
        head_dim=shape.head_dim,
        residual_multiplier=residual_multiplier,
    )


def _block(shape: sizes.Shape, parametrisation: Parametrisation, *, last: bool) -> JointBlock.Config:
    r = parametrisation.residual_multiplier
    return JointBlock.Config(
        image=_stream(shape, pre_only=False, residual_multiplier=r),
        text=_stream(shape, pre_only=last, residual_multiplier=r),
        text2=_stream(shape, pre_only=last, residual_multiplier=r) if shape.weight_sets == 3 else None,
        attention=JointAttention.Config(scale=parametrisation.attention_scale(shape.head_dim)),
    )


def mmdit_config(
    shape: sizes.Shape,
    *,
    channels: int,
    patch: int,
    grid: PositionGrid,
    text_split: tuple[int, ...] | None = None,
    parametrisation: Parametrisation | None = None,
) -> MMDiT.Config:
    """The configuration of an MM-DiT.

    Args:
        shape: its sizes.
        channels: of the image or latent.
        patch: side of a patch.
        grid: the table of positions.
        text_split: text tokens of each of their weight sets; by default all of the one set.
        parametrisation: what width and depth change; by default nothing.
    """
    h, last = shape.hidden, shape.depth - 1
    scaled = parametrisation or Parametrisation(width=h, depth=shape.depth)
    return MMDiT.Config(
        shape=shape,
        channels=channels,
        patch=patch,
        text_split=text_split or (shape.text_tokens,),
        grid=grid,
        patch_embed=_linear(shape.patch_dim, h),
        time_embed=Embedder.Config(first=_linear(sizes.TIME_FREQUENCIES, h), second=_linear(h, h)),
        pooled_embed=Embedder.Config(first=_linear(shape.pooled_dim, h), second=_linear(h, h)),
        context_embed=_linear(shape.context_dim, h),
        position_table=PositionTable.Config(side=grid.side, width=h) if shape.learned_positions else None,
        blocks=[_block(shape, scaled, last=i == last) for i in range(shape.depth)],
        final=FinalLayer.Config(
            ada=_linear(h, 2 * h), linear=_linear(h, shape.patch_dim), input_multiplier=scaled.output_multiplier
        ),
        parametrisation=scaled,
    )


def backbone_config(run: RunConfig) -> MMDiT.Config:
    """The configuration of a run's model.

    Args:
        run: the run.
    """
    inputs, shape = inputs_of(run.data), model_shape(run)
    return mmdit_config(
        shape,
        channels=inputs.channels,
        patch=run.model.patch,
        grid=PositionGrid(side=position_side(run), image=run.grid_side, base=run.model.position_base or run.grid_side),
        text_split=inputs.token_groups if run.model.weight_sets == 3 else None,
        parametrisation=parametrisation_of(run.model),
    )
