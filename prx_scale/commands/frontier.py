"""``prx-scale frontier``: the compute-optimal size at every budget, from the runs themselves."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from prx_scale.commands.allocate import parse_amounts
from prx_scale.commands.point_options import PointOptions, Repeated, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling.frontier import Frontier as Result


@dataclass(frozen=True, kw_only=True)
class Frontier(PointOptions):
    """Find the compute-optimal size at every budget from the runs themselves, without a law of size and data.

    Fits a curve of loss over size at every budget (isoFLOP profiles), or takes the lowest training curve at every
    compute (envelope), and draws the lines of N* and D* in compute through the optima, with intervals and warnings.

    Example: prx-scale frontier runs.csv --degree 3

    Example: prx-scale frontier runs.csv --budgets 6e18,1e19,3e19 --tolerance 0.1 --at 1e22

    Example: prx-scale frontier checkpoints.csv --method envelope
    """

    method: Literal["isoflop", "envelope"] = "isoflop"
    """isoflop: a parabola or cubic of loss in log size at every budget. envelope: the lowest of the training curves,
    for runs at a constant rate with many checkpoints; the options for budgets do not concern it."""
    smooth: int = 5
    """Checkpoints over which the envelope smooths a curve; 1 leaves curves as they are."""
    degree: Literal[2, 3] = 2
    """Of the isoFLOP curve: 2 as published, 3 for the skew that a parabola leaves out; asks for one size more."""
    scale: Literal["linear", "log"] = "linear"
    """Fit the loss as published, or its logarithm."""
    budgets: Repeated = ()
    """Budgets in FLOPs: 1e19,1e20. Default: found in the compute of the rows. Budgets in a column of their own are
    named with --columns flops=COLUMN."""
    tolerance: float = 0.1
    """How far from its budget a row may lie, as a share."""
    merge: float = 0.0
    """Sizes of a budget closer than this become one row: 0.01 for digitised tables, which hold near-duplicates."""
    bracketed: bool = False
    """Leave budgets out whose minimum lies outside the sizes that were trained."""
    bootstrap: int = 1000
    """Resamples behind the intervals; 0 leaves them out."""
    resampling: Literal["wild", "rows"] = "wild"
    """wild keeps the sizes and resamples residuals; rows draws rows within their budget."""
    at: Repeated = ()
    """Budgets in FLOPs at which N* and D* are read off the lines: 1e22."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Find the frontier, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        budgets, places = parse_amounts(self.budgets, "--budgets"), parse_amounts(self.at, "--at")
        loaded = self.load()
        result = self._find(loaded, budgets)
        write_json(self._document(result, loaded, places), self.json)
        if self.json != "-":
            from prx_scale.commands.frontier_output import print_frontier

            print_frontier(result, loaded, places)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _find(self, loaded: Loaded, budgets: list[float]) -> Result:
        from scaling import FitInputError
        from scaling.envelope import envelope
        from scaling.isoflop import isoflop

        try:
            if self.method == "envelope":
                return envelope(
                    loaded.points,
                    smooth=self.smooth,
                    bootstrap=self.bootstrap,
                    level=self.level_for(loaded),
                    seed=self.seed,
                    flops_per=loaded.provenance.flops_per,
                )
            return isoflop(
                loaded.points,
                degree=self.degree,
                scale=self.scale,
                budgets=budgets or None,
                tolerance=self.tolerance,
                merge=self.merge,
                bracketed_only=self.bracketed,
                bootstrap=self.bootstrap,
                resampling=self.resampling,
                level=self.level_for(loaded),
                seed=self.seed,
                flops_per=loaded.provenance.flops_per,
            )
        except FitInputError as error:
            raise InputError(f"{', '.join(loaded.provenance.sources)}: {error}") from error

    def _document(self, result: Result, loaded: Loaded, places: list[float]) -> dict[str, Any]:
        from prx_scale.runs.clock import now
        from scaling.jsontypes import finite_json

        used = replace(loaded.provenance, bootstrap=self.bootstrap, seed=self.seed, created=now())
        found = [(flops, *result.at(flops)) for flops in places]
        return {
            **result.to_json(),
            "at": [finite_json({"flops": c, "params": asdict(n), "data": asdict(d)}) for c, n, d in found],
            "provenance": finite_json(asdict(replace(used, command=command_line(sys.argv)))),
        }
