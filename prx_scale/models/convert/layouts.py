"""The two published layouts of SD3's transformer: which of their tensors is which of our parameters. Needs no torch.

diffusers' SD3Transformer2DModel keeps q, k and v apart and orders a modulation of two parts (scale, shift); Stability's
reference fuses q, k and v and orders (shift, scale), as we do. Both have the patch projection as a convolution and the
positions as a table of shape (1, side^2, hidden).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prx_scale.errors import InputError
from prx_scale.models.inputs import Inputs
from prx_scale.models.names import POSITIONS, TensorShape, WeightSizes, parameter_shapes

STABILITY_PREFIX = "model.diffusion_model."
"""Before every name of the transformer in Stability's files, which may also hold autoencoder and text encoders."""

Parts = Mapping[tuple[str, ...], str]
"""Our modules of one stream, joined along their first dimension, to their one module."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a published implementation names its tensors."""

    name: Literal["diffusers", "stability"]
    positions: str
    outside: Mapping[str, str]
    """Our modules outside of the blocks to theirs."""
    block: str
    """Prefix of a block, with its number in braces."""
    image: Parts
    text: Parts
    scale_first: bool
    """Modulations of two parts are ordered (scale, shift)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of their tensors."""

    theirs: str
    shape: TensorShape
    ours: tuple[str, ...]
    """Our parameters in it, joined along the first dimension."""
    swapped: bool = False
    """Its two halves stand the other way round."""


DIFFUSERS = Layout(
    name="diffusers",
    positions="pos_embed.pos_embed",
    outside={
        "patch_embed": "pos_embed.proj",
        "context_embed": "context_embedder",
        "time_embed.first": "time_text_embed.timestep_embedder.linear_1",
        "time_embed.second": "time_text_embed.timestep_embedder.linear_2",
        "pooled_embed.first": "time_text_embed.text_embedder.linear_1",
        "pooled_embed.second": "time_text_embed.text_embedder.linear_2",
        "final.ada": "norm_out.linear",
        "final.linear": "proj_out",
    },
    block="transformer_blocks.{}.",
    image={
        ("ada",): "norm1.linear",
        ("q",): "attn.to_q",
        ("k",): "attn.to_k",
        ("v",): "attn.to_v",
        ("q_norm",): "attn.norm_q",
        ("k_norm",): "attn.norm_k",
        ("out",): "attn.to_out.0",
        ("mlp_in",): "ff.net.0.proj",
        ("mlp_out",): "ff.net.2",
    },
    text={
        ("ada",): "norm1_context.linear",
        ("q",): "attn.add_q_proj",
        ("k",): "attn.add_k_proj",
        ("v",): "attn.add_v_proj",
        ("q_norm",): "attn.norm_added_q",
        ("k_norm",): "attn.norm_added_k",
        ("out",): "attn.to_add_out",
        ("mlp_in",): "ff_context.net.0.proj",
        ("mlp_out",): "ff_context.net.2",
    },
    scale_first=True,
)


def _stability_stream(name: str) -> Parts:
    return {
        ("ada",): f"{name}.adaLN_modulation.1",
        ("q", "k", "v"): f"{name}.attn.qkv",
        ("q_norm",): f"{name}.attn.ln_q",
        ("k_norm",): f"{name}.attn.ln_k",
        ("out",): f"{name}.attn.proj",
        ("mlp_in",): f"{name}.mlp.fc1",
        ("mlp_out",): f"{name}.mlp.fc2",
    }


STABILITY = Layout(
    name="stability",
    positions="pos_embed",
    outside={
        "patch_embed": "x_embedder.proj",
        "context_embed": "context_embedder",
        "time_embed.first": "t_embedder.mlp.0",
        "time_embed.second": "t_embedder.mlp.2",
        "pooled_embed.first": "y_embedder.mlp.0",
        "pooled_embed.second": "y_embedder.mlp.2",
        "final.ada": "final_layer.adaLN_modulation.1",
        "final.linear": "final_layer.linear",
    },
    block="joint_blocks.{}.",
    image=_stability_stream("x_block"),
    text=_stability_stream("context_block"),
    scale_first=False,
)

LAYOUTS = (DIFFUSERS, STABILITY)


def check_holds(layout: Layout, sizes: WeightSizes) -> None:
    """Whether a layout can hold a model.

    Args:
        layout: theirs.
        sizes: of the model.

    Raises:
        InputError: the model has three weight sets, an embedder of sizes or no pooled state, which neither holds.
    """
    if sizes.weight_sets != 2:
        raise InputError(
            f"[model] weight_sets: the {layout.name} layout holds 2 weight sets, not {sizes.weight_sets}; "
            "the prx format holds them all"
        )
    if sizes.size_conditioning:
        raise InputError(
            f"[model] size_conditioning: the {layout.name} layout has no embedder of sizes; --image-size N folds what "
            "it says of images of N x N pixels into the time's, and the prx format holds it whole"
        )
    if not sizes.pooled_dim:
        raise InputError(
            f"the model takes no pooled text state, and the {layout.name} layout has weights for one; the prx format "
            "holds it"
        )


def check_inputs(inputs: Inputs, layout: str) -> None:
    """Refuse a model whose text SD3's transformer cannot be given.

    Args:
        inputs: what the model is fed.
        layout: name of the published layout, for errors.

    Raises:
        InputError: names the encoder, and says why.
    """
    masked = ", ".join(f"'{encoder.name}'" for encoder in inputs.encoders if encoder.masked)
    names = ", ".join(f"'{encoder.name}'" for encoder in inputs.encoders)
    if masked:
        raise InputError(
            f"--format {layout}: the model does not attend to the padding of {masked}, and SD3's transformer takes no "
            "mask of text tokens; --format prx holds the model"
        )
    if not inputs.pooled_dim:
        raise InputError(
            f"--format {layout}: SD3's transformer takes a pooled text state, and {names} gives none; --format prx "
            "holds the model"
        )


def entries(layout: Layout, sizes: WeightSizes, side: int) -> list[Entry]:
    """All tensors that a model has in a layout; positions always come as a table.

    Args:
        layout: theirs.
        sizes: of the model.
        side: of its table of positions.

    Raises:
        InputError: the layout cannot hold the model.
    """
    check_holds(layout, sizes)
    shapes = parameter_shapes(sizes)
    found = [
        Entry(theirs=layout.positions, shape=(1, side**2, sizes.hidden), ours=(POSITIONS,)),
        *_of_modules(layout.outside, shapes, layout, sizes),
    ]
    for i in range(sizes.depth):
        for stream, parts in (("image", layout.image), ("text", layout.text)):
            modules = {
                tuple(f"layers.{i}.{stream}.{part}" for part in ours): layout.block.format(i) + theirs
                for ours, theirs in parts.items()
            }
            found += _of_modules(modules, shapes, layout, sizes)
    return found


def _of_modules(
    modules: Mapping[str, str] | Mapping[tuple[str, ...], str],
    shapes: Mapping[str, TensorShape],
    layout: Layout,
    sizes: WeightSizes,
) -> list[Entry]:
    last_text = f"layers.{sizes.depth - 1}.text.ada"
    found: list[Entry] = []
    for ours, theirs in modules.items():
        each = (ours,) if isinstance(ours, str) else ours
        for kind in ("weight", "bias"):
            names = tuple(f"{name}.{kind}" for name in each)
            if names[0] not in shapes:
                continue
            first = shapes[names[0]]
            shape = (len(names) * first[0], *first[1:])
            if names == ("patch_embed.weight",):
                shape = (sizes.hidden, sizes.channels, sizes.patch, sizes.patch)
            swapped = layout.scale_first and each[0] in ("final.ada", last_text)
            found.append(Entry(theirs=f"{theirs}.{kind}", shape=shape, ours=names, swapped=swapped))
    return found
