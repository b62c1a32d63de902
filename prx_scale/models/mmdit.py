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
from torch import Tensor

from parallel.tensor import Plan
from parallel.titan import BaseModel, Module, ModuleDict
from prx_scale.config import RunConfig
from prx_scale.data.framing import uncropped
from prx_scale.models import sizes
from prx_scale.models.blocks import JointBlock, block_config
from prx_scale.models.build import model_shape, parametrisation_of, position_side
from prx_scale.models.embeddings import PositionGrid, centre_crop, size_frequencies, time_frequencies
from prx_scale.models.initial import initialise
from prx_scale.models.inputs import inputs_of
from prx_scale.models.layers import (
    Boundary,
    Embedder,
    FinalLayer,
    Linear,
    PositionTable,
    embedder_config,
    linear_config,
)
from prx_scale.models.mup import Parametrisation
from prx_scale.models.spread import context_plan, tensor_plan


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
        downsampling: int
        """Pixels along one side of one value of the image or latent."""
        patch_embed: Linear.Config
        time_embed: Embedder.Config
        pooled_embed: Embedder.Config | None
        """None where the text encoders give no pooled state."""
        size_embed: Embedder.Config | None
        """None where the model is not told the sizes of images."""
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
        self.pooled_embed = config.pooled_embed.build() if config.pooled_embed else None
        self.size_embed = config.size_embed.build() if config.size_embed else None
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

    def forward(
        self,
        z: Tensor,
        *,
        t: Tensor,
        context: Tensor,
        pooled: Tensor,
        mask: Tensor | None = None,
        size: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity.

        Args:
            z: (B, C, height, width) noisy images or latents, of any aspect ratio that the positions cover.
            t: (B,) times in [0, 1]; 0 is data, 1 is noise.
            context: (B, L, context_dim) text token states.
            pooled: (B, pooled_dim) pooled text states; of width 0 where there are none.
            mask: (B, L), true at text tokens that are attended to; None: all are. Image tokens always are.
            size: (B, 6) in pixels, as `prx_scale.data.framing.Framing.conditioning`, for a model that is told; by
                default those of whole images of this size.

        Returns:
            (B, C, height, width) velocity, the estimate of eps - x0, in float32.
        """
        # Under mixed precision the gathered weights say in which type the products run.
        dtype = self.patch_embed.weight.dtype
        c_BD = self.condition(z, t, pooled, size)
        grid = (z.shape[2] // self.config.patch, z.shape[3] // self.config.patch)
        image_BLD = self.patch_embed(self.patchify(z.to(dtype))) + self.positions_of(*grid).to(dtype)
        texts_BLD = self.context_embed(context.to(dtype)).split(self.config.text_split, dim=1)
        visible = None if mask is None else visible_keys(mask, image_BLD.shape[1])
        image_BLD = self.split_sequence(self.split_context(image_BLD))
        for block in self.layers.values():
            image_BLD, *texts_BLD = block(c_BD, image_BLD, *texts_BLD, mask=visible)
        velocity_BLP = self.join_context(self.final(self.join_sequence(image_BLD), c_BD))
        return self.unpatchify(velocity_BLP, *grid).float()

    def condition(self, z: Tensor, t: Tensor, pooled: Tensor, size: Tensor | None) -> Tensor:
        """(B, D) SiLU of the sum of what each image as a whole is conditioned on; arguments as of `forward`."""
        dtype = self.patch_embed.weight.dtype
        time = time_frequencies(t.float(), sizes.TIME_FREQUENCIES)
        c_BD = self.time_embed(time.to(dtype))
        if self.pooled_embed is not None:
            c_BD = c_BD + self.pooled_embed(pooled.to(dtype))
        if self.size_embed is not None:
            size = self.whole(z) if size is None else size.float()
            c_BD = c_BD + self.size_embed(size_frequencies(size, sizes.SIZE_FREQUENCIES).to(dtype))
        return F.silu(c_BD)

    def whole(self, z: Tensor) -> Tensor:
        """(B, 6) sizes, in pixels, of images that were neither resized nor cut."""
        height, width = (side * self.config.downsampling for side in z.shape[2:])
        return torch.tensor(uncropped((height, width)), dtype=torch.float32, device=z.device).expand(len(z), -1)

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


def visible_keys(mask: Tensor, image_tokens: int) -> Tensor:
    """Which keys any query attends to: image tokens, and text tokens that are no padding.

    Args:
        mask: (B, L), true at real tokens of the text.
        image_tokens: of an image, over all processes that share them.

    Returns:
        (B, 1, 1, image tokens + L).
    """
    return torch.cat([mask.new_ones(len(mask), image_tokens), mask], dim=1)[:, None, None]


def mmdit_config(
    shape: sizes.Shape,
    *,
    channels: int,
    patch: int,
    grid: PositionGrid,
    downsampling: int = 1,
    text_split: tuple[int, ...] | None = None,
    parametrisation: Parametrisation | None = None,
) -> MMDiT.Config:
    """The configuration of an MM-DiT.

    Args:
        shape: its sizes.
        channels: of the image or latent.
        patch: side of a patch.
        grid: the table of positions.
        downsampling: pixels along one side of one value of the image or latent.
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
        downsampling=downsampling,
        patch_embed=linear_config(shape.patch_dim, h),
        time_embed=embedder_config(sizes.TIME_FREQUENCIES, h),
        pooled_embed=embedder_config(shape.pooled_dim, h) if shape.pooled_dim else None,
        size_embed=embedder_config(sizes.SIZES * sizes.SIZE_FREQUENCIES, h) if shape.size_conditioning else None,
        context_embed=linear_config(shape.context_dim, h),
        position_table=PositionTable.Config(side=grid.side, width=h) if shape.learned_positions else None,
        blocks=[block_config(shape, scaled, last=i == last) for i in range(shape.depth)],
        final=FinalLayer.Config(
            ada=linear_config(h, 2 * h),
            linear=linear_config(h, shape.patch_dim),
            input_multiplier=scaled.output_multiplier,
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
        downsampling=run.data.downsampling,
        text_split=inputs.token_groups if run.model.weight_sets == 3 else None,
        parametrisation=parametrisation_of(run.model),
    )
