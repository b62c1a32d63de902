"""``prx-scale suggest``: which runs to launch next so that one prediction tightens most."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.commands.fitted import FittedOptions
from prx_scale.commands.point_options import write_json
from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.depthplan import Family
    from prx_scale.sources import Loaded
    from scaling import FitResult
    from scaling.cost import Cost
    from scaling.design import Candidates, Suggestion


@dataclass(frozen=True, kw_only=True)
class Suggest(FittedOptions):
    """Choose the runs to launch next: those that tighten the prediction of a target most for the compute they cost.

    Uses the resamples of the fit to find what each possible run would say about the target, and spends the budget on
    the best set, repeats with other seeds included. For a study, prints tables for its file that `sweep` runs.

    Example: prx-scale suggest runs.csv --budget 1e20 --target flops=1e22

    Example: prx-scale suggest ladder --budget 2e13 --target params=30M,samples=1M --fragment next.toml
    """

    budget: str
    """FLOPs that all runs together may cost: 1e20."""
    target: str
    """Run whose loss is to be known: flops=1e22 takes its optimal split; or params=1.3B,samples=40M (or tokens=)."""
    depths: str | None = None
    """Depths to choose from: 1-8, or 2,4,6. Default: those near the fitted sizes."""
    study: Path | None = None
    """Study file or folder whose model and batch the runs have. Default: a study among the sources; without one, the
    runs are sizes and lengths of a grid."""
    most_runs: int = 12
    """Upper limit of the number of runs."""
    fragment: Path | None = None
    """Write [[variant]] tables for the study file to this file."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Suggest, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        budget = parse_quantity(self.budget, f"--budget {self.budget}")
        study = self._study()
        if self.fragment is not None and study is None:
            raise InputError("--fragment: needs a study: give a study folder as the source, or --study")
        result, loaded = self.fitted()
        if loaded is None:
            raise InputError(
                f"{self.sources[0]}: a finished fit has no runs; give the tables or studies it was made of"
            )
        found = self._suggest(result, loaded, study, budget)
        text = self._fragment(found, study)
        if self.fragment is not None:
            from prx_scale.runs.files import write_atomically

            write_atomically(self.fragment, text)
        write_json(self._document(found, result, text), self.json)
        if self.json != "-":
            from prx_scale.commands.suggest_output import print_suggestion

            print_suggestion(found, result, text, loaded.notices)
            for path in (self.json, self.fragment):
                if path is not None:
                    print(f"wrote {path}")
        return 0

    def _study(self) -> Path | None:
        if self.study is not None:
            return self.study
        folders = [Path(source) for source in self.sources if (Path(source) / "study.toml").exists()]
        return folders[0] if folders else None

    def _suggest(self, result: FitResult, loaded: Loaded, study: Path | None, budget: float) -> Suggestion:
        from prx_scale.depthplan import family_cost, family_of
        from prx_scale.nextruns import ends
        from scaling import FitInputError
        from scaling.cost import Cost
        from scaling.design import suggest

        try:
            family = None if study is None else family_of(study)
            unit = result.provenance.data_unit
            k = result.provenance.flops_per
            cost = Cost.measured(loaded.points, k) if family is None else family_cost(family, unit)
            candidates = self._candidates(loaded, family, cost, budget, unit)
            target = self._target(result, cost)
            return suggest(result, candidates, target, budget, ends(loaded.points)[0], self.most_runs)
        except FitInputError as error:
            raise InputError(f"{', '.join(self.sources)}: {error}") from error

    def _candidates(self, loaded: Loaded, family: Family | None, cost: Cost, budget: float, unit: str) -> Candidates:
        from prx_scale import depthplan
        from prx_scale.nextruns import depth_candidates, grid_candidates

        if family is None:
            if self.depths is not None:
                raise InputError("--depths: needs a study: give a study folder as the source, or --study")
            return grid_candidates(loaded.points, cost, budget)
        depths = depthplan.parse_depths(self.depths) if self.depths else ()
        return depth_candidates(loaded.points, family, depths, budget, unit)

    def _target(self, result: FitResult, cost: Cost) -> tuple[float, float, float]:
        """N, D and cost of the target."""
        from prx_scale.commands.fit import parse_target
        from scaling.planning import allocate

        target = parse_target(self.target, "--target")
        unit = result.provenance.data_unit
        given = {key for key in target if key not in ("samples", "tokens")}
        if given == {"flops"}:
            best = allocate(result, target["flops"], cost, factors=())
            return best.params.value, best.data.value, target["flops"]
        if given not in ({"params", "data"}, {"params", "flops"}):
            raise InputError(f"--target {self.target}: give flops=.., or params=.. and {unit}=.. (or flops=..)")
        other = "tokens" if unit == "samples" else "samples"
        if other in target:
            raise InputError(f"--target {other}=: these points count data in {unit}; use {unit}=")
        each = float(cost.per_sample(target["params"]))
        data = target["data"] if "data" in target else target["flops"] / each
        return target["params"], data, each * data

    def _fragment(self, found: Suggestion, study: Path | None) -> str:
        from prx_scale.nextruns import study_fragment

        return "" if study is None else study_fragment(study, found.runs)

    def _document(self, found: Suggestion, result: FitResult, fragment: str) -> dict[str, Any]:
        from scaling.jsontypes import finite_json

        origin = finite_json(asdict(result.provenance))
        return {**found.to_json(), "law": result.law, "fragment": fragment, "provenance": origin}
