"""``prx-scale compare``: does a technique change the scaling law, and which part of it?"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prx_scale.commands.point_options import PointOptions, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling.comparison_records import Comparison


@dataclass(frozen=True, kw_only=True)
class Compare(PointOptions):
    """Compare variants of a recipe: which parameters of the scaling law differ between them.

    Fits all variants jointly, once for every choice of parameters that may differ, and ranks the choices. Shows how far
    each variant's parameters are from the baseline's, and how much compute it needs for the same loss, with intervals.

    Example: prx-scale compare runs.csv --by recipe --baseline plain --vary E,A,alpha
    """

    by: str
    """Column that names the variant of every row."""
    baseline: str | None = None
    """Variant that the others are compared with. Default: the one with most rows."""
    law: str | None = None
    """Law that every variant follows. Default: the study's, else chinchilla."""
    vary: str | None = None
    """Parameters of the law that may differ: E,A,alpha. Default: all of them."""
    bootstrap: int = 1000
    """Resamples behind the intervals; 0 leaves them out."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Compare, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        loaded = self.load(by=(self.by,))
        result = self._compare(loaded)
        write_json({**result.to_json(), "provenance": self._provenance(loaded)}, self.json)
        if self.json != "-":
            from prx_scale.commands.compare_output import print_comparison

            print_comparison(result, loaded)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _compare(self, loaded: Loaded) -> Comparison:
        from rich.console import Console

        from scaling import FitInputError
        from scaling.comparison import compare

        assert loaded.group is not None  # load was asked for the column
        vary = tuple(name.strip() for name in self.vary.split(",")) if self.vary else ()
        try:
            with Console(stderr=True).status("fitting every choice of parameters"):
                return compare(
                    loaded.points,
                    loaded.group,
                    law=self.law or (loaded.fit.law if loaded.fit else "chinchilla"),
                    baseline=self.baseline,
                    vary=vary,
                    bootstrap=self.bootstrap,
                    level=self.level_for(loaded),
                    seed=self.seed,
                    flops_per=loaded.provenance.flops_per,
                )
        except FitInputError as error:
            raise InputError(f"{', '.join(loaded.provenance.sources)}, --by {self.by}: {error}") from error

    def _provenance(self, loaded: Loaded) -> dict[str, object]:
        from dataclasses import asdict

        from prx_scale.runs.clock import now

        used = replace(loaded.provenance, bootstrap=self.bootstrap, seed=self.seed, created=now())
        return asdict(replace(used, command=command_line(sys.argv)))
