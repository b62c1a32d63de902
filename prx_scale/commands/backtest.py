"""``prx-scale backtest``: which law predicts the larger runs of a table from its smaller ones."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.commands.point_options import PointOptions, Repeated, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling import Provenance
    from scaling.backtest_records import Backtest as Result


@dataclass(frozen=True, kw_only=True)
class Backtest(PointOptions):
    """Fit a law on the small runs and predict the large ones, for every cut in compute.

    For every cut, runs that end below it are fitted and rows at or above it predicted. Shows the error, its sign
    and the coverage of the intervals, by cut and by how far the prediction reaches: this is how a law is chosen.

    Example: prx-scale backtest runs.csv --where split=heldout --law chinchilla --law power_floor:flops
    """

    law: Repeated = ()
    """Law to test; repeat to compare. Default: chinchilla, and power_floor:flops as the baseline to beat."""
    cut: Repeated = ()
    """Cut in FLOPs: 9.9e20. Repeat for several. Default: every compute at which a run ends."""
    max_cuts: int = 30
    """Where there are more cuts, take this many, evenly spread."""
    bootstrap: int = 200
    """Resamples behind the intervals of each cut; 0 leaves them out."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""
    html: Path | None = None
    """Write a self-contained HTML page with charts of error, coverage and width against extrapolation to this file."""

    def run(self) -> int:
        """Backtest, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        from prx_scale.commands.text import parse_quantity

        cuts = [parse_quantity(text, f"--cut {text}") for text in self.cut]
        loaded = self.load()
        result = self._backtest(loaded, cuts)
        provenance = self._provenance(loaded)
        write_json({**result.to_json(), "provenance": asdict(provenance)}, self.json)
        if self.html is not None:
            from prx_scale.runs.files import write_atomically
            from reports.backtest_page import render_backtest_page

            write_atomically(self.html, render_backtest_page(result, provenance))
        if self.json != "-":
            from prx_scale.commands.backtest_output import print_backtest

            print_backtest(result, loaded)
            for path in (self.json, self.html):
                if path is not None:
                    print(f"wrote {path}")
        return 0

    def _backtest(self, loaded: Loaded, cuts: list[float]) -> Result:
        from rich.console import Console

        from scaling import FitInputError
        from scaling.backtest import DEFAULT_LAWS, backtest

        try:
            with Console(stderr=True).status("fitting below every cut"):
                return backtest(
                    loaded.points,
                    self.law or DEFAULT_LAWS,
                    cuts=cuts or None,
                    max_cuts=self.max_cuts,
                    bootstrap=self.bootstrap,
                    level=self.level_for(loaded),
                    seed=self.seed,
                    flops_per=loaded.provenance.flops_per,
                )
        except FitInputError as error:
            raise InputError(f"{', '.join(loaded.provenance.sources)}: {error}") from error

    def _provenance(self, loaded: Loaded) -> Provenance:
        from prx_scale.runs.clock import now

        used = replace(loaded.provenance, bootstrap=self.bootstrap, seed=self.seed, created=now())
        return replace(used, command=command_line(sys.argv))
