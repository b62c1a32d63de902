"""``prx-scale allocate``: how to split a training budget between model size and data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.commands.fitted import FittedOptions
from prx_scale.commands.point_options import Repeated, write_json
from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.depthplan import DepthRun, Family
    from prx_scale.sources import Loaded
    from scaling import FitResult
    from scaling.cost import Cost
    from scaling.lifetime import Lifetime
    from scaling.planning import Allocation

_SAMPLER_STEPS = 50
_GUIDED_PASSES = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about one budget.

    Attributes:
        allocation: N*, D*, L* and what other sizes cost.
        depths: every depth asked for, trained for the whole budget.
        lifetimes: cheapest models with inference paid for, one for every amount asked for.
    """

    allocation: Allocation
    depths: tuple[DepthRun, ...]
    lifetimes: tuple[Lifetime, ...]


@dataclass(frozen=True, kw_only=True)
class Allocate(FittedOptions):
    """Split a training budget between model size and data, with intervals and the price of other sizes.

    A source is a table, a study folder, or a fit that `prx-scale fit --json` wrote. With --depths the choice is among
    real depths of an MM-DiT (hidden 64 x depth), with exact parameters and FLOPs.

    Example: prx-scale allocate runs.csv --budget 1e21,1e22

    Example: prx-scale allocate fit.json --budget 1e22 --depths 15-38 --study study.toml --inference-samples 1e9
    """

    budget: Repeated
    """Training FLOPs to spend: 1e21, or several as 1e21,1e22. Repeat for more."""
    depths: str | None = None
    """Depths to choose from: 15-38, or 15,18,24. Default with --study: all that cost at most 8 times too much."""
    study: Path | None = None
    """Study file or folder whose model, resolution and batch the depths have. Default: a study among the sources, else
    SD3 at 256x256 pixels with batch 4096."""
    inference_samples: Repeated = ()
    """Samples (or tokens) the model will generate in its life: 1e9. The cheapest model of equal loss is then found for
    training and inference together. Repeat for several."""
    inference_steps: int | None = None
    """Sampler steps of a generated sample. Default: 50 for samples, 1 for tokens."""
    inference_passes: int | None = None
    """Forward passes a sampler step: 2 with classifier-free guidance. Default: 2 for samples, 1 for tokens."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Allocate, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        budgets = parse_amounts(self.budget, "--budget")
        volumes = parse_amounts(self.inference_samples, "--inference-samples")
        result, loaded = self.fitted()
        family = self._family()
        plans = self._plans(result, self._cost(result, loaded, family), family, budgets, volumes)
        write_json(self._document(result, family, plans), self.json)
        if self.json != "-":
            from prx_scale.commands.allocate_output import print_plans

            print_plans(result, plans, family, loaded.notices if loaded else ())
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _family(self) -> Family | None:
        """The model family of the depths; None where none was asked for."""
        from prx_scale import depthplan

        if self.study is not None:
            return depthplan.family_of(self.study)
        if self.depths is None:
            return None
        folders = [Path(source) for source in self.sources if (Path(source) / "study.toml").exists()]
        return depthplan.family_of(folders[0]) if folders else depthplan.SD3

    def _cost(self, result: FitResult, loaded: Loaded | None, family: Family | None) -> Cost | None:
        from prx_scale.depthplan import family_cost
        from scaling import FitInputError
        from scaling.cost import Cost

        if family is not None:
            return family_cost(family, result.provenance.data_unit)
        if loaded is None:
            return None
        try:
            return Cost.measured(loaded.points, result.provenance.flops_per)
        except FitInputError as error:
            raise InputError(f"{', '.join(self.sources)}: {error}") from error

    def _plans(
        self, result: FitResult, cost: Cost | None, family: Family | None, budgets: list[float], volumes: list[float]
    ) -> list[Plan]:
        from prx_scale import depthplan
        from scaling import FitInputError
        from scaling.lifetime import lifetime

        chosen = depthplan.parse_depths(self.depths) if self.depths else tuple(range(1, depthplan.DEEPEST + 1))
        share = self._per_training_cost(result.provenance.data_unit)
        plans: list[Plan] = []
        try:
            for flops in budgets:
                runs = depthplan.plan_depths(result, family, chosen, flops) if family else ()
                if self.depths is None:
                    runs = tuple(run for run in runs if run.compute_factor <= 8.0)
                used = tuple(lifetime(result, flops, volume, share, cost) for volume in volumes)
                plans.append(Plan(allocation=result.allocate(flops, cost), depths=runs, lifetimes=used))
        except FitInputError as error:
            raise InputError(f"{', '.join(self.sources)}: {error}") from error
        return plans

    def _per_training_cost(self, unit: str) -> float:
        from scaling.lifetime import FORWARD_SHARE

        steps = (
            self.inference_steps if self.inference_steps is not None else (_SAMPLER_STEPS if unit == "samples" else 1)
        )
        passes = (
            self.inference_passes if self.inference_passes is not None else (_GUIDED_PASSES if unit == "samples" else 1)
        )
        for name, value in (("--inference-steps", steps), ("--inference-passes", passes)):
            if value < 1:
                raise InputError(f"{name}: {value} is too small; at least 1")
        return steps * passes * FORWARD_SHARE

    def _document(self, result: FitResult, family: Family | None, plans: list[Plan]) -> dict[str, Any]:
        from scaling.jsontypes import finite_json

        rows = [
            {
                **plan.allocation.to_json(),
                "depths": [finite_json(asdict(run)) for run in plan.depths],
                "lifetimes": [finite_json(asdict(each)) for each in plan.lifetimes],
            }
            for plan in plans
        ]
        return {
            "schema": 1,
            "law": result.law,
            "level": result.level,
            "data_unit": result.provenance.data_unit,
            "family": None if family is None else family.source,
            "allocations": rows,
            "provenance": finite_json(asdict(result.provenance)),
        }


def parse_amounts(texts: Repeated, option: str) -> list[float]:
    """Read ``1e21,1e22``; several texts add up.

    Raises:
        InputError: a part is not a positive number.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    return [parse_quantity(part, f"{option} {part}") for part in parts]
