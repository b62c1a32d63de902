"""Maximal update parametrisation of the MM-DiT: what width and depth change about initial weights and learning rates.

With n the width, n0 the width at which hyperparameters were tuned and m = n / n0 (Yang et al. 2022, arXiv 2203.03466,
table 8 for Adam; Zheng et al. 2025, arXiv 2505.15270, show that it holds for MM-DiT as it stands):

| role | who | learning rate | initial variance | forward |
|---|---|---|---|---|
| input | embedders' matrices that read a fixed width, trained positions | 1 | as at n0 | |
| hidden | matrices from width to width, adaLN's among them | 1/m | 1/fan_in | |
| output | the projection to patches | 1 | zero | its input times 1/m |
| vector | biases and the norms of queries and keys | 1 | as at n0 | |

Depth, with L blocks, L0 at the base and r = L / L0 (Yang et al. 2023, arXiv 2310.02244): residual branches times
r^(-1/2), learning rates of all parameters in blocks times r^(-1/2). Adam's eps follows the size of the gradients, 1/m,
and in blocks r^(-1/2) (Dey et al. 2025, arXiv 2505.01618, table 1). Weight decay is divided by the learning rate's
factor, so that what a step takes away, rate times decay, is the same for all parameters at all widths.

At the base width and depth every factor is exactly 1. Nothing here needs torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from math import prod

BASE_HEAD_DIM = 64
"""Width of a head at which attention logits are scaled as usual."""


class Role(Enum):
    """What becomes of a parameter's two sides as the model gets wider."""

    INPUT = "input"
    HIDDEN = "hidden"
    OUTPUT = "output"
    VECTOR = "vector"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A set of parameters that are treated alike."""

    pattern: str
    """Matches their full names; a wrapper of a block may stand between its number and the rest."""
    role: Role
    in_block: bool = False
    tokens: bool = False
    """A matrix of a block that is applied to every token."""


PARTS = (
    Part(pattern=r"^layers\..*\.(q|k|v|out|mlp_in|mlp_out)\.weight$", role=Role.HIDDEN, in_block=True, tokens=True),
    Part(pattern=r"^layers\..*\.ada\.weight$", role=Role.HIDDEN, in_block=True),
    Part(pattern=r"^layers\..*(\.bias|\.[qk]_norm\.weight)$", role=Role.VECTOR, in_block=True),
    Part(pattern=r"^((time|pooled|size)_embed\.second|final\.ada)\.weight$", role=Role.HIDDEN),
    Part(
        pattern=r"^(patch_embed|context_embed|(time|pooled|size)_embed\.first|position_table)\.weight$",
        role=Role.INPUT,
    ),
    Part(pattern=r"^final\.linear\.weight$", role=Role.OUTPUT),
    Part(pattern=r"^(?!layers\.).*\.bias$", role=Role.VECTOR),
)
"""Every parameter of an MM-DiT belongs to exactly one."""


def part_of(name: str) -> Part:
    """The part that a parameter belongs to.

    Args:
        name: its full name in the model.

    Raises:
        ValueError: no part or several claim it; a new parameter needs a place in `PARTS`.
    """
    found = [part for part in PARTS if re.search(part.pattern, name)]
    if len(found) != 1:
        raise ValueError(f"{name}: belongs to {len(found)} parts of prx_scale.models.mup.PARTS, not to one")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Factors on the hyperparameters of a group of parameters."""

    lr: float = 1.0
    eps: float = 1.0
    """Of Adam."""

    @property
    def weight_decay(self) -> float:
        """Keeps the product of learning rate and decay."""
        return 1 / self.lr


@dataclass(frozen=True, kw_only=True)
class Parametrisation:
    """How a model's width and depth stand to those at which hyperparameters were tuned; 0 turns a rule off."""

    width: int
    depth: int
    base_width: int = 0
    base_depth: int = 0

    @property
    def width_ratio(self) -> float:
        """m = width / base width; 1 where muP is off."""
        return self.width / self.base_width if self.base_width else 1.0

    @property
    def depth_ratio(self) -> float:
        """r = depth / base depth; 1 where depth-muP is off."""
        return self.depth / self.base_depth if self.base_depth else 1.0

    @property
    def output_multiplier(self) -> float:
        """Of what the last projection reads: 1/m.

        With Adam this is the same as an m-fold smaller learning rate there, but for the gradient's norm, which it keeps
        independent of the width, as clipping needs.
        """
        return 1 / self.width_ratio

    @property
    def residual_multiplier(self) -> float:
        """Of every residual branch: r^(-1/2)."""
        return self.depth_ratio**-0.5

    def attention_scale(self, head_dim: int) -> float:
        """Of the attention logits: 1/d instead of 1/sqrt(d), equal to it at the base width of a head.

        Here width grows by the number of heads, each 64 wide, so this is the usual scale at every width: the rule only
        speaks where d itself changes.

        Args:
            head_dim: d.
        """
        return BASE_HEAD_DIM**0.5 / head_dim if self.base_width else head_dim**-0.5

    def adam(self, part: Part) -> Multipliers:
        """Factors for parameters under Adam or AdamW.

        Args:
            part: what they are.
        """
        wide = 1 / self.width_ratio
        deep = self.residual_multiplier if part.in_block else 1.0
        return Multipliers(lr=(wide if part.role is Role.HIDDEN else 1.0) * deep, eps=wide * deep)

    def muon(self, *, rms_matched: bool) -> Multipliers:
        """Factors for matrices of blocks under Muon.

        Its update has singular values near 1, so its spectral norm does not grow with the width, which is what features
        that move as much at every width ask of a matrix whose sides keep their ratio (Yang, Simon and Bernstein 2023,
        arXiv 2310.17813). Where the update is scaled to the root mean square of AdamW's, its norm grows with sqrt(n),
        and the rate must fall as m^(-1/2).

        Args:
            rms_matched: the update is scaled by 0.2 sqrt(larger side).
        """
        wide = self.width_ratio**-0.5 if rms_matched else 1.0
        return Multipliers(lr=wide * self.residual_multiplier)

    def folded(self, name: str) -> float:
        """Factor on a parameter with which a model without multipliers computes the same, for weights that leave.

        Args:
            name: the parameter's full name.
        """
        if name == "final.linear.weight":
            return self.output_multiplier
        if re.search(r"^layers\..*\.(out|mlp_out)\.(weight|bias)$", name):
            return self.residual_multiplier
        return 1.0

    def init_std(self, name: str, shape: tuple[int, ...]) -> float:
        """Factor on the standard deviation of a parameter's usual initial value.

        Xavier's 2 / (fan_in + fan_out) falls as 1/n in hidden matrices already, but must not in embedders of a fixed
        fan_in; the normal with a fixed deviation must fall in the second matrix of an embedder, and not in its first.

        Args:
            name: the parameter's full name.
            shape: of a matrix, (fan_out, fan_in).
        """
        if self.width_ratio == 1:
            return 1.0
        part = part_of(name)
        if name in ("time_embed.second.weight", "pooled_embed.second.weight"):
            return self.width_ratio**-0.5
        if part.role is Role.INPUT and name.split(".")[0] in ("patch_embed", "context_embed"):
            fan_out, fan_in = shape[0], prod(shape[1:])
            return ((fan_in + fan_out) / (fan_in + fan_out / self.width_ratio)) ** 0.5
        return 1.0
