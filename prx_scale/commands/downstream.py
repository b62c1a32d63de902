"""``prx-scale downstream``: what a metric will be, by way of the loss."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from prx_scale.commands.point_options import Repeated, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.metricrows import Source
    from scaling.downstream import Chain, FormScore, Target
    from scaling.notices import Notice


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """Predict a metric in two steps: a law of the loss, then the metric in the loss.

    Both steps are resampled as one, by run, so that the interval of the metric holds the errors of both. The direct
    fit of the metric on compute stands beside it. Works on a study folder and on a table with a loss and a metric.

    Example: prx-scale downstream quickstart --metric geneval/overall --predict params=10M,samples=1M

    Example: prx-scale downstream runs.csv --metric err_avg17 --direction min --form all --predict flops=1e22
    """

    source: tyro.conf.Positional[str]
    """A study directory, or a CSV, Parquet or JSONL file."""
    metric: str
    """Metric of the run record (geneval/overall), or column of the table."""
    form: Literal["linear", "logistic", "exponential", "all"] = "all"
    """Metric as a function of the loss; all fits each and goes on with the one that extrapolates best."""
    direction: Literal["max", "min"] | None = None
    """Whether higher (max) or lower (min) is better. Default: known metrics by name, else as the values go."""
    chance: float | None = None
    """Value of a model that has learned nothing: a constraint, not a parameter."""
    ceiling: float | None = None
    """Best possible value: a constraint, not a parameter."""
    predict: Repeated = ()
    """Run to predict: params=1.3B,samples=40M, or flops=1e22 for the optimal split. Repeat for several."""
    law: str | None = None
    """Law of the loss. Default: the study's, else chinchilla."""
    weighting: Literal["equal", "stderr", "binomial"] = "equal"
    """How rows of the second step count: alike, by 1/stderr^2, or by the binomial variance of their n trials."""
    weights: Literal["raw", "ema"] = "ema"
    """Which weights of a study were validated and scored."""
    columns: Repeated = ()
    """Which column of a table is what: params=n_params,loss=val/loss."""
    where: Repeated = ()
    """Keep rows that meet a condition, in both steps. Repeat to combine."""
    law_where: Repeated = ()
    """Keep rows that meet a condition, in the law of the loss only: final=true."""
    cluster: str | None = None
    """Column whose rows belong together, usually the run, or row."""
    bootstrap: int = 1000
    """Resamples of the chain; 0 leaves intervals out."""
    level: float | None = None
    """Level of the intervals. Default: the study's, else 0.8."""
    seed: int = 0
    """Seed of the resamples."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Fit both steps, print, and write what was asked for; 0 on success.

        Raises:
            InputError: a source, metric, option or run to predict that cannot be used.
        """
        from prx_scale import metricrows, sources
        from prx_scale.commands.fit import parse_target

        asked = [parse_target(text) for text in self.predict]
        wanted = metricrows.MetricOptions(
            name=self.metric, direction=self.direction, chance=self.chance, ceiling=self.ceiling
        )
        source = metricrows.load(
            self.source,
            wanted,
            columns=sources.parse_columns(self.columns),
            where=self.where,
            law_where=self.law_where,
            cluster=self.cluster,
            weights=self.weights,
        )
        scores, chained, notes = self._fit(source, self._targets(source, asked))
        write_json(self._document(source, scores, chained, notes), self.json)
        if self.json != "-":
            from prx_scale.commands.downstream_output import print_downstream

            print_downstream(source, scores, chained, notes)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _targets(self, source: Source, asked: list[dict[str, float]]) -> list[Target]:
        from scaling.downstream import Target

        unit = source.points.provenance.data_unit
        other = "tokens" if unit == "samples" else "samples"
        if any(other in target for target in asked):
            raise InputError(f"--predict {other}=: these points count data in {unit}; use {unit}=")
        held_out = [Target(params=run.params, data=run.data) for run in source.held_out]
        return held_out + [
            Target(params=each.get("params"), data=each.get("data"), flops=each.get("flops")) for each in asked
        ]

    def _fit(self, source: Source, targets: list[Target]) -> tuple[tuple[FormScore, ...], Chain, tuple[Notice, ...]]:
        from rich.console import Console

        from scaling import FitInputError
        from scaling.downstream import FORMS, chain, choose_form
        from scaling.downstream.selection import examine

        loaded = source.points
        level = self.level if self.level is not None else (loaded.fit.level if loaded.fit else 0.8)
        forms = list(FORMS) if self.form == "all" else [self.form]
        try:
            with Console(stderr=True).status("resampling both steps"):
                scores = choose_form(
                    source.rows,
                    source.metric,
                    forms,
                    weighting=self.weighting,
                    bootstrap=self.bootstrap,
                    level=level,
                    seed=self.seed,
                )
                chained = chain(
                    loaded.points,
                    source.rows,
                    source.metric,
                    targets,
                    law=self.law or (loaded.fit.law if loaded.fit else "chinchilla"),
                    form=scores[0].form,
                    weighting=self.weighting,
                    bootstrap=self.bootstrap,
                    level=level,
                    seed=self.seed,
                    flops_per=loaded.provenance.flops_per,
                    provenance=loaded.provenance,
                )
        except FitInputError as error:
            raise InputError(f"{self.source}: {error}") from error
        return scores, chained, (*examine(source.rows, scores[0]), *chained.notices)

    def _document(
        self, source: Source, scores: tuple[FormScore, ...], chained: Chain, notes: tuple[Notice, ...]
    ) -> dict[str, Any]:
        from dataclasses import asdict

        from prx_scale import __version__
        from prx_scale.runs.clock import now
        from scaling.jsontypes import finite_json

        forms = [
            {
                "form": each.form,
                "held_out_error": each.held_out,
                "held_out_signed": each.signed,
                "folds": each.folds,
                "fit": each.fit.to_json(),
            }
            for each in scores
        ]
        provenance = {
            **asdict(source.points.provenance),
            "weights": self.weights,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "version": __version__,
            "created": now(),
            "command": command_line(sys.argv),
        }
        return {
            "schema": 1,
            "metric": self.metric,
            **finite_json(
                {
                    "level": chained.second.level,
                    "forms": forms,
                    "chain": chained.to_json(),
                    "held_out": [asdict(each) for each in source.held_out],
                    "notes": [asdict(each) for each in notes],
                    "notices": [*source.points.notices, *source.notices],
                    "provenance": provenance,
                }
            ),
        }
