"""Names and shapes of an MM-DiT's parameters, from its sizes; needs no torch: weights can be checked anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.config import RunConfig
from prx_scale.models.build import position_side
from prx_scale.models.inputs import inputs_of
from prx_scale.models.sizes import SIZE_FREQUENCIES, SIZES, TIME_FREQUENCIES
from prx_scale.runtables import HEAD_DIM

POSITIONS = "position_table.weight"

TensorShape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WeightSizes:
    """All sizes that decide the shapes of an MM-DiT's parameters."""

    depth: int
    hidden: int
    patch: int
    channels: int
    context_dim: int
    """Width of the token states of the text."""
    pooled_dim: int
    """Width of the pooled state of the text; 0 where there is none."""
    qk_norm: bool
    weight_sets: int = 2
    learned_side: int = 0
    """Side of a trained table of positions; 0 where positions are fixed sinusoids."""
    size_conditioning: bool = False
    """It has an embedder of sizes in pixels."""

    @property
    def heads(self) -> int:
        """Attention heads of width 64."""
        return self.hidden // HEAD_DIM

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of a block's weight sets."""
        return ("image", "text", "text2")[: self.weight_sets]


def sizes_of_run(run: RunConfig) -> WeightSizes:
    """Sizes of a run's model.

    Args:
        run: the run.
    """
    inputs = inputs_of(run.data)
    return WeightSizes(
        depth=run.model.depth,
        hidden=run.model.hidden,
        patch=run.model.patch,
        channels=inputs.channels,
        context_dim=inputs.context_dim,
        pooled_dim=inputs.pooled_dim,
        qk_norm=run.model.qk_norm,
        weight_sets=run.model.weight_sets,
        learned_side=position_side(run) if run.model.positions == "learned" else 0,
        size_conditioning=run.model.size_conditioning,
    )


def parameter_shapes(sizes: WeightSizes) -> dict[str, TensorShape]:
    """Every parameter of the model by name.

    Args:
        sizes: of the model.
    """
    h, values = sizes.hidden, sizes.channels * sizes.patch**2
    shapes: dict[str, TensorShape] = {}
    shapes |= _linear("patch_embed", values, h) | _linear("context_embed", sizes.context_dim, h)
    shapes |= _linear("time_embed.first", TIME_FREQUENCIES, h) | _linear("time_embed.second", h, h)
    if sizes.pooled_dim:
        shapes |= _linear("pooled_embed.first", sizes.pooled_dim, h) | _linear("pooled_embed.second", h, h)
    if sizes.size_conditioning:
        shapes |= _linear("size_embed.first", SIZES * SIZE_FREQUENCIES, h) | _linear("size_embed.second", h, h)
    for i in range(sizes.depth):
        for stream in sizes.streams:
            shapes |= _stream(f"layers.{i}.{stream}", sizes, pre_only=stream != "image" and i == sizes.depth - 1)
    shapes |= _linear("final.ada", h, 2 * h) | _linear("final.linear", h, values)
    if sizes.learned_side:
        shapes[POSITIONS] = (sizes.learned_side, sizes.learned_side, h)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> dict[str, TensorShape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _stream(name: str, sizes: WeightSizes, *, pre_only: bool) -> dict[str, TensorShape]:
    h = sizes.hidden
    shapes = _linear(f"{name}.ada", h, 2 * h if pre_only else 6 * h)
    for part in ("q", "k", "v"):
        shapes |= _linear(f"{name}.{part}", h, h)
    if sizes.qk_norm:
        shapes |= {f"{name}.q_norm.weight": (HEAD_DIM,), f"{name}.k_norm.weight": (HEAD_DIM,)}
    if not pre_only:
        shapes |= _linear(f"{name}.out", h, h)
        shapes |= _linear(f"{name}.mlp_in", h, 4 * h) | _linear(f"{name}.mlp_out", 4 * h, h)
    return shapes
