"""Budgets in real depths: what each depth of a model family costs, and which one a training budget should go to.

The family is that of the studies: depth d has hidden size 64 d and d heads, with parameters and FLOPs in closed form
(`prx_scale.models.sizes`), so none of this needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale import study
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape, sd3_shape
from prx_scale.models.sizes import Shape, parameters, training_flops
from prx_scale.runtables import HEAD_DIM

if TYPE_CHECKING:
    from scaling import FitResult
    from scaling.cost import Cost

DEEPEST = 128
_SD3 = sd3_shape(depth=1, width=HEAD_DIM, pixels=256 * 256)


@dataclass(frozen=True, kw_only=True)
class Family:
    """All that a depth leaves open about a model and its training.

    Attributes:
        shape: sizes of the model; depth and hidden size are replaced.
        batch: samples a step.
        source: where this came from, for people.
        least_steps: the shortest run, warm-up and one step.
    """

    shape: Shape
    batch: int
    source: str
    least_steps: int = 1

    def at(self, depth: int) -> Shape:
        """The model of that depth."""
        return replace(self.shape, depth=depth, hidden=HEAD_DIM * depth)


SD3 = Family(
    shape=_SD3,
    batch=4096,
    source="SD3 (Esser et al. 2024): 256x256 pixels as 32x32 latents of 16 channels, patch 2, 154 text tokens",
)


@dataclass(frozen=True, kw_only=True)
class DepthCost:
    """One depth: its size and what a sample costs.

    Attributes:
        depth: blocks.
        params: of the backbone, as fits of studies count them.
        flops_per_sample: training FLOPs.
        data_per_sample: data units in a sample: 1, or image tokens where the fit counts tokens.
    """

    depth: int
    params: int
    flops_per_sample: int
    data_per_sample: int


@dataclass(frozen=True, kw_only=True)
class DepthRun:
    """A depth trained for the whole budget.

    Attributes:
        depth: blocks.
        params: of the backbone.
        flops_per_sample: training FLOPs.
        samples: that the budget pays for.
        steps: of the family's batch.
        loss: predicted.
        interval: where such a run should fall.
        loss_increase: over the optimum of the budget, as a share.
        compute_factor: how many times too much is paid for that loss.
        best_share: share of resamples in which this depth is the best of those asked for.
    """

    depth: int
    params: int
    flops_per_sample: int
    samples: float
    steps: int
    loss: float
    interval: tuple[float, float]
    loss_increase: float
    compute_factor: float
    best_share: float


def family_of(path: Path) -> Family:
    """The family of a study: its first run with the depth taken out.

    Raises:
        InputError: the file is no study.
    """
    loaded = study.load(path)
    run = loaded.runs[0]
    return Family(
        shape=model_shape(run),
        batch=run.training.batch,
        source=f"{loaded.file}, run {run.id}",
        least_steps=run.training.warmup + 1,
    )


def parse_depths(text: str) -> tuple[int, ...]:
    """Read ``15-38`` or ``15,18,24`` or both mixed.

    Raises:
        InputError: not depths between 1 and 128.
    """
    depths: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise InputError(f"--depths {text}: '{part}' is no depth; write 15-38, or 15,18,24") from None
        if not 1 <= low <= high <= DEEPEST:
            raise InputError(f"--depths {text}: '{part}' is no range of depths between 1 and {DEEPEST}")
        depths.update(range(low, high + 1))
    return tuple(sorted(depths))


def depth_costs(family: Family, depths: Sequence[int], unit: str) -> tuple[DepthCost, ...]:
    """Sizes and costs of depths.

    Args:
        family: the rest of the model.
        depths: which.
        unit: what the fit counts as data, "samples" or "tokens".
    """
    shapes = [family.at(depth) for depth in depths]
    return tuple(
        DepthCost(
            depth=shape.depth,
            params=parameters(shape).backbone,
            flops_per_sample=training_flops(shape),
            data_per_sample=shape.image_tokens if unit == "tokens" else 1,
        )
        for shape in shapes
    )


def family_cost(family: Family, unit: str) -> Cost:
    """Training FLOPs of a unit of data against size, over all depths of a family."""
    from scaling.cost import Cost

    every = depth_costs(family, range(1, DEEPEST + 1), unit)
    return Cost.tabulated(
        [each.params for each in every], [each.flops_per_sample / each.data_per_sample for each in every]
    )


def plan_depths(result: FitResult, family: Family, depths: Sequence[int], flops: float) -> tuple[DepthRun, ...]:
    """Every depth trained for the whole budget, as the fit predicts it.

    Args:
        result: the fit.
        family: the rest of the model, and the batch.
        depths: which.
        flops: training budget in FLOPs.

    Raises:
        scaling.FitInputError: the law has no trade-off between size and data.
    """
    import numpy as np

    from scaling.planning import deviate, search_window, surface_of

    unit = result.provenance.data_unit
    costs, curve = depth_costs(family, depths, unit), family_cost(family, unit)
    sizes = np.array([float(each.params) for each in costs])
    surface = surface_of(result)
    priced = deviate(surface, curve, flops, sizes, search_window(result, flops))
    data = np.array([each.data for each in priced])
    low, high = result.predict_interval(sizes, data)
    share = np.zeros(len(costs))
    if len(result.draws):
        best = surface_of(result, draws=True).log_loss(np.log(sizes), np.log(data)).argmin(axis=1)
        share = np.bincount(best, minlength=len(costs)) / len(best)
    samples = [each.data / cost.data_per_sample for each, cost in zip(priced, costs, strict=True)]
    return tuple(
        DepthRun(
            depth=cost.depth,
            params=cost.params,
            flops_per_sample=cost.flops_per_sample,
            samples=samples[i],
            steps=max(round(samples[i] / family.batch), 1),
            loss=priced[i].loss,
            interval=(float(low[i]), float(high[i])),
            loss_increase=priced[i].loss_increase,
            compute_factor=priced[i].compute_factor,
            best_share=float(share[i]),
        )
        for i, cost in enumerate(costs)
    )
