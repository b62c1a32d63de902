"""``prx-scale curve``: where a training curve will end, from its first part."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from prx_scale.commands.point_options import Repeated, command_line, write_json
from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    from prx_scale.curverows import Curves
    from scaling.curves import Curve as LossCurve
    from scaling.curves import Extrapolation, Origin


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A run with its prediction.

    Attributes:
        prediction: the loss at the step asked for.
        tests: backtests behind its interval.
        origins: with --backtest, predictions of the run's last loss from its earlier parts.
        measured: the loss that was measured at that step, where --until held it back; else None.
    """

    prediction: Extrapolation
    tests: tuple[Origin, ...]
    origins: tuple[Origin, ...]
    measured: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Predict the loss at the end of a run from its first part.

    Fits L(s) = E + K (s + s0)^-g to the part at a constant learning rate. Runs of the same size share the shape of
    the curve, and all other runs of the study are backtests of the interval. Works on a study folder and on a table
    with a step and a loss.

    Example: prx-scale curve quickstart --run d4-held-out-s0-4f1b2c3d --to 5000

    Example: prx-scale curve losses.csv --columns step=iteration,loss=val/loss --to 100k --backtest
    """

    source: tyro.conf.Positional[str]
    """A study directory, or a CSV, Parquet or JSONL file."""
    run_ids: Annotated[Repeated, tyro.conf.arg(name="run")] = ()
    """Run to predict; repeat for several. Default: all."""
    to: str | None = None
    """Step to predict: 5000, 100k. Default: the planned end of a study's run, else the last step of the longest run."""
    until: str | None = None
    """Use only the steps up to this one of the runs that are predicted: to see what an early prediction is worth."""
    backtest: bool = False
    """Predict the last measured loss of every run from ever longer first parts of it."""
    table: Literal["validation", "train"] = "validation"
    """Which losses of a study; those of training batches are noisier and of raw weights."""
    weights: Literal["raw", "ema"] = "ema"
    """Which weights of a study were validated."""
    warmup: float | None = None
    """Steps to leave out. Default: the warm-up of a study's runs; of a table, until the rate is at its greatest."""
    columns: Repeated = ()
    """Which column of a table is what: step=iteration,loss=val/loss (keys: step, loss, run, lr, params)."""
    where: Repeated = ()
    """Keep rows that meet a condition. Repeat to combine."""
    level: float = 0.8
    """Level of the intervals."""
    seed: int = 0
    """Seed of the draws."""
    json: str | None = None
    """Write the result as JSON to this file; - writes it, and nothing else, to standard output."""

    def run(self) -> int:
        """Predict, print, and write what was asked for; 0 on success.

        Raises:
            InputError: a source, run, column, step or option that cannot be used.
        """
        from prx_scale import curverows, sources

        loaded = curverows.load(
            self.source,
            columns=sources.parse_columns(self.columns),
            where=self.where,
            warmup=self.warmup,
            record=self.table,
            weights=self.weights,
        )
        results, notices = self._predict(loaded)
        write_json(self._document(results, notices), self.json)
        if self.json != "-":
            from prx_scale.commands.curve_output import print_curves

            print_curves(results, notices, self.source, self.level)
            if self.json is not None:
                print(f"wrote {self.json}")
        return 0

    def _predict(self, loaded: Curves) -> tuple[list[Extended], list[str]]:
        from rich.console import Console

        from prx_scale.commands.text import parse_quantity
        from scaling import FitInputError

        to = None if self.to is None else parse_quantity(self.to, f"--to {self.to}")
        until = None if self.until is None else parse_quantity(self.until, f"--until {self.until}")
        results, notices = list[Extended](), list(loaded.notices)
        longest = max(float(curve.step[-1]) for curve in loaded.curves)
        with Console(stderr=True).status("weighing shapes"):
            for curve in self._chosen(loaded):
                target = to or max(loaded.planned.get(curve.run, longest), float(curve.step[-1]))
                try:
                    results.append(self._extend(curve, target, until, loaded))
                except FitInputError as error:
                    notices.append(f"left out: {error}")
        if not results:
            raise InputError(f"{self.source}: no run can be predicted. {'; '.join(notices)}")
        return results, notices

    def _extend(self, curve: LossCurve, to: float, until: float | None, loaded: Curves) -> Extended:
        from scaling.curves import predict, rolling_origin

        part = curve if until is None else curve.between(0.0, until)
        others = [other for other in loaded.curves if other is not curve]
        prediction, tests = predict(part, to, others, level=self.level, seed=self.seed)
        origins: tuple[Origin, ...] = ()
        if self.backtest:
            origins = rolling_origin(curve, float(curve.step[-1]), others, level=self.level, seed=self.seed)
        value = None
        if until is not None and until < to <= curve.step[-1]:
            value = next((float(loss) for step, loss in zip(curve.step, curve.loss, strict=True) if step == to), None)
        return Extended(prediction=prediction, tests=tests, origins=origins, measured=value)

    def _chosen(self, loaded: Curves) -> list[LossCurve]:
        by_name = {curve.run: curve for curve in loaded.curves}
        for name in self.run_ids:
            if name not in by_name:
                raise InputError(f"{self.source}: no run '{name}' that can be predicted; {nearest(name, by_name)}")
        return [by_name[name] for name in self.run_ids] if self.run_ids else list(loaded.curves)

    def _document(self, results: list[Extended], notices: list[str]) -> dict[str, Any]:
        from dataclasses import asdict

        from prx_scale import __version__
        from prx_scale.runs.clock import now
        from scaling.jsontypes import finite_json

        provenance = {
            "sources": [self.source],
            "where": self.where,
            "table": self.table,
            "weights": self.weights,
            "seed": self.seed,
            "version": __version__,
            "created": now(),
            "command": command_line(sys.argv),
        }
        runs = [asdict(each) for each in results]
        return {
            "schema": 1,
            **finite_json({"level": self.level, "runs": runs, "notices": notices, "provenance": provenance}),
        }
