"""``prx-scale rank``: which variant is best over several metrics and settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from prx_scale.commands.point_options import Repeated, command_line, write_json
from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

    from scaling.ranking import Ranking

Direction = Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Rank variants by non-dominated sorting in every setting, ranks averaged over settings.

    The procedure behind Table 1 of the Stable Diffusion 3 paper: no metric is traded against another, and no scale
    of a metric matters. A setting is what all variants were measured under: a sampler, a dataset, weights.

    Example: prx-scale rank scores.csv --variant name --setting sampler --setting dataset --metrics clip:max,fid:min
    """

    table: tyro.conf.Positional[str]
    """CSV, Parquet or JSONL file with a row a variant and setting."""
    variant: str
    """Column that names the variant."""
    setting: Repeated = ()
    """Column of the setting; repeat where several make one. Default: all rows are one setting."""
    metrics: Repeated
    """Columns with their directions: clip:max,fid:min."""
    where: Repeated = ()
    """Keep rows that meet a condition: steps=50. Repeat to combine."""
    bootstrap: int = 2000
    """Resamples of whole settings behind the intervals; 0 leaves them out."""
    level: float = 0.8
    """Level of the intervals."""
    seed: int = 0
    """Seed of the resamples."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Rank, print, and write what was asked for; 0 on success.

        Raises:
            InputError: a table, column, condition or option that cannot be used.
        """
        from prx_scale import sources
        from prx_scale.rowfilter import keep_all, parse_condition

        directions = parse_metrics(self.metrics)
        path = Path(self.table)
        frame = keep_all(sources.read_table(path), [parse_condition(text) for text in self.where], self.table)
        result = self._rank(frame, directions)
        write_json(self._document(result), self.json)
        if self.json != "-":
            from prx_scale.commands.rank_output import print_ranking

            print_ranking(result, self.table)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _rank(self, frame: pl.DataFrame, directions: dict[str, Direction]) -> Ranking:
        from prx_scale.metricrows import numbers
        from scaling import FitInputError
        from scaling.ranking import rank

        for column in (self.variant, *self.setting):
            if column not in frame.columns:
                raise InputError(f"{self.table}: no column '{column}'; {nearest(column, frame.columns)}")
        settings = ["all"] * len(frame)
        if self.setting:
            settings = [
                ", ".join(f"{name}={value}" for name, value in zip(self.setting, row, strict=True))
                for row in frame.select(self.setting).iter_rows()
            ]
        try:
            return rank(
                [str(name) for name in frame[self.variant]],
                settings,
                {name: numbers(frame, name, self.table) for name in directions},
                directions,
                resamples=self.bootstrap,
                level=self.level,
                seed=self.seed,
            )
        except FitInputError as error:
            raise InputError(f"{self.table}: {error}") from error

    def _document(self, result: Ranking) -> dict[str, Any]:
        from dataclasses import asdict

        from prx_scale import __version__
        from prx_scale.runs.clock import now
        from scaling.jsontypes import finite_json

        provenance = {
            "sources": [self.table],
            "where": self.where,
            "variant": self.variant,
            "setting": self.setting,
            "seed": self.seed,
            "version": __version__,
            "created": now(),
            "command": command_line(sys.argv),
        }
        return {"schema": 1, **finite_json({**asdict(result), "provenance": provenance})}


def parse_metrics(texts: tuple[str, ...]) -> dict[str, Direction]:
    """Read ``clip:max,fid:min``; several texts add up.

    Raises:
        InputError: a part is not METRIC:max or METRIC:min, or a metric is there twice.
    """
    directions: dict[str, Direction] = {}
    for part in ",".join(texts).split(","):
        name, sign, direction = part.strip().rpartition(":")
        if not sign or not name or direction not in ("max", "min"):
            raise InputError(f"--metrics {part}: expected METRIC:max or METRIC:min, for example clip:max,fid:min")
        if name in directions:
            raise InputError(f"--metrics {part}: '{name}' is there twice")
        directions[name] = "max" if direction == "max" else "min"
    return directions
