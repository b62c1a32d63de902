"""``prx-scale correlate``: does a lower validation loss mean a better score, and between which checkpoints?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from prx_scale.commands.point_options import Repeated, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.lossmetric import Checkpoints
    from scaling.correlation import Trends
    from scaling.notices import Notice

OVERALL = "geneval/overall"


@dataclass(frozen=True, kw_only=True)
class Correlate:
    """Correlate validation loss with a metric over the checkpoints of studies.

    Shows Pearson, Spearman and Kendall over all checkpoints, the correlation at equal depth, and the split into
    within and between runs: a trend that exists only within training curves is not a scaling trend.

    Example: prx-scale correlate quickstart --metric geneval/overall --metric geneval/counting
    """

    studies: tyro.conf.Positional[tuple[str, ...]]
    """Study directories."""
    metric: Repeated = ()
    """Metric of the run record to correlate; repeat for several. Default: geneval/overall."""
    weights: Literal["raw", "ema"] = "ema"
    """Which weights were validated and scored."""
    bootstrap: int = 2000
    """Resamples of whole runs behind the intervals; 0 leaves them out."""
    level: float = 0.8
    """Level of the intervals."""
    seed: int = 0
    """Seed of the resamples."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Correlate, print, and write what was asked for; 0 on success.

        Raises:
            InputError: a study, metric or option that cannot be used.
        """
        from prx_scale import lossmetric

        if not self.studies:
            raise InputError("no study: give at least one study directory")
        metrics = list(dict.fromkeys(self.metric or (OVERALL,)))
        found = lossmetric.load(self.studies, metrics, self.weights)
        results = [(checkpoints, *self._correlate(checkpoints)) for checkpoints in found]
        write_json(self._document(results), self.json)
        if self.json != "-":
            from prx_scale.commands.correlate_output import print_trends

            for checkpoints, trends, note in results:
                print_trends(checkpoints, trends, note, self.level)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _correlate(self, checkpoints: Checkpoints) -> tuple[Trends, Notice]:
        from scaling import FitInputError
        from scaling.correlation import describe, trends

        frame = checkpoints.frame
        try:
            result = trends(
                frame["loss"].to_numpy(),
                frame["value"].to_numpy(),
                [f"{study}/{run}" for study, run in frame.select("study", "run").iter_rows()],
                frame["depth"].to_numpy(),
                bootstrap=self.bootstrap,
                level=self.level,
                seed=self.seed,
            )
        except FitInputError as error:
            raise InputError(str(error)) from error
        return result, describe(result, "validation loss", checkpoints.metric)

    def _document(self, results: list[tuple[Checkpoints, Trends, Notice]]) -> dict[str, Any]:
        from dataclasses import asdict

        from prx_scale import __version__
        from prx_scale.runs.clock import now
        from scaling.jsontypes import finite_json

        rows = [
            {"metric": checkpoints.metric, **asdict(trends), "verdict": asdict(note), "notices": checkpoints.notices}
            for checkpoints, trends, note in results
        ]
        provenance = {
            "sources": self.studies,
            "weights": self.weights,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "version": __version__,
            "created": now(),
            "command": command_line(sys.argv),
        }
        return {"schema": 1, "level": self.level, **finite_json({"metrics": rows, "provenance": provenance})}
