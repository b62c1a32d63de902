"""The section that holds the fit to account: predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports import units
from reports.charts import prediction as charts
from reports.page import Block, Cell, Column, Figure, Prose, Section, Table, Verdict, text_cell
from reports.study_data import Check, Forecast, Outcome, StudyData
from scaling.results import FitResult


def verdict(study: StudyData) -> Verdict:
    """What became of the prediction, in plain words."""
    if study.outcome is None or not study.outcome.checks:
        made = study.forecast is not None and bool(study.forecast.predictions)
        text = "No held-out run has been measured against a prediction, so the fit has not been put to a test."
        if made and study.forecast is not None:
            text = f"A prediction was written down on {units.moment(study.forecast.made)}; its run is not measured yet."
        return Verdict(headline="No prediction has been tested yet", text=text, outcome="open")
    held = sum(check.held for check in study.outcome.checks)
    total = len(study.outcome.checks)
    if total == 1:
        headline = "The prediction held" if held else "The prediction missed"
    else:
        headline = f"{held} of {total} predictions held"
    outcome = "held" if held == total else "missed"
    return Verdict(headline=headline, text=study.outcome.sentence, outcome=outcome)


def prediction_section(study: StudyData) -> Section:
    """Predicted against measured, or the sentence that there is nothing to compare."""
    title = "Predicted against measured"
    blocks: list[Block] = []
    if study.forecast is None:
        text = (
            "No prediction was written down (fit/prediction.json is not there), so there is nothing to hold the fit to."
        )
        blocks.append(Prose(text=text, tone="note"))
    else:
        blocks += [Prose(text=_made(study.forecast)), _forecast_table(study.forecast)]
    if study.outcome is None or not study.outcome.checks:
        blocks.append(Prose(text="No held-out run has been measured yet.", tone="note"))
    else:
        frame = comparison(study.fit, study.points, study.outcome.checks)
        blocks += [_figure(study, study.outcome, frame), _error_figure(study, frame), _check_table(study.outcome)]
    return Section(key="prediction", title=title, blocks=tuple(blocks))


def _made(forecast: Forecast) -> str:
    when = "before they started" if forecast.beforehand else "when they had already started"
    return (
        f"The law {forecast.law} was fitted without the held-out runs, and their loss was written down on "
        f"{units.moment(forecast.made)}, {when}, each with the interval in which a new run should fall "
        f"with {units.percent(forecast.level, 0)} probability."
    )


def _forecast_table(forecast: Forecast) -> Table:
    names = ("Depth", "Params", "Data", "FLOPs", "Predicted loss", "Interval")
    return Table(
        title="What was written down",
        columns=tuple(Column(label=name) for name in names),
        rows=tuple(_forecast_row(row) for row in forecast.predictions),
        note="Source: fit/prediction.json.",
    )


def _forecast_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    bounds = row.get("interval")
    low, high = (float(bounds[0]), float(bounds[1])) if bounds else (float("nan"), float("nan"))
    return (
        Cell(value=row.get("depth"), text=str(row.get("depth", units.NOTHING))),
        Cell(value=row.get("params"), text=units.short(row.get("params"))),
        Cell(value=row.get("data"), text=units.short(row.get("data"))),
        Cell(value=row.get("flops"), text=units.flops(row.get("flops"))),
        Cell(value=row.get("loss"), text=units.loss(row.get("loss"))),
        Cell(value=f"{low!r} to {high!r}", text=units.interval((low, high), 4)),
    )


def _figure(study: StudyData, outcome: Outcome, frame: pl.DataFrame) -> Figure:
    level = units.percent(outcome.checks[0].level, 0)
    return Figure(
        key="predicted-measured",
        title="Predicted against measured loss",
        subtitle=f"On the dotted line a prediction is exact. Bars are {level} intervals for a new run; diamonds were "
        "held out, circles are the last points of the runs that were fitted.",
        chart=charts.predicted_against_measured(frame, study.depths),
        description=f"Scatter of predicted against measured validation loss with intervals. {outcome.sentence}",
        source="Source: fit/verdict.json, fit/points.csv and fit/fit.json.",
    )


def _error_figure(study: StudyData, frame: pl.DataFrame) -> Figure:
    labels = {run.run: f"depth {run.depth}, seed {run.seed}" for run in study.runs}
    if len(study.compared) > 1:
        labels = {run.run: f"{label}, {run.variant}" for run, label in zip(study.runs, labels.values(), strict=True)}
    errors = frame.with_columns(
        label=pl.col("run").replace(labels),
        error=pl.col("measured") / pl.col("predicted") - 1,
        low=pl.col("low") / pl.col("predicted") - 1,
        high=pl.col("high") / pl.col("predicted") - 1,
    )
    return Figure(
        key="prediction-errors",
        title="How far off each prediction was",
        subtitle="The same numbers relative to the predicted loss: a point on its bar lies in its interval. Diamonds "
        "were held out.",
        chart=charts.prediction_errors(errors, study.depths),
        description="Dot plot of the relative error of every run with the prediction interval as a bar around zero.",
        source="Source: fit/verdict.json, fit/points.csv and fit/fit.json.",
        table=_comparison_table(errors),
    )


def _comparison_table(errors: pl.DataFrame) -> Table:
    names = ("Run", "Role", "Predicted", "Measured", "Measured ÷ predicted − 1")
    rows = tuple(
        (
            text_cell(row["run"]),
            text_cell(row["role"]),
            Cell(value=row["predicted"], text=units.loss(row["predicted"])),
            Cell(value=row["measured"], text=units.loss(row["measured"])),
            Cell(value=row["error"], text=units.percent(row["error"], 2, signed=True)),
        )
        for row in errors.iter_rows(named=True)
    )
    columns = tuple(Column(label=name, numeric=name not in ("Run", "Role")) for name in names)
    return Table(title="Predicted and measured loss of every run", columns=columns, rows=rows)


def comparison(fit: FitResult | None, points: pl.DataFrame | None, checks: tuple[Check, ...]) -> pl.DataFrame:
    """Columns run, depth, predicted, low, high, measured, role: held-out runs and the last point of fitted ones."""
    rows = [
        {
            "run": check.run,
            "depth": check.depth,
            "predicted": check.predicted,
            "low": check.interval[0],
            "high": check.interval[1],
            "measured": check.measured,
            "role": "held out",
        }
        for check in checks
    ]
    frame = pl.DataFrame(rows)
    if fit is None or points is None or points.is_empty():
        return frame
    last = points.sort("step").group_by("run", maintain_order=True).last()
    n, d = last["params"].to_numpy(), last["data"].to_numpy()
    low, high = fit.predict_interval(n, d)
    fitted = last.select("run", "depth", measured="loss").with_columns(
        predicted=pl.Series(fit.predict(n, d)), low=pl.Series(low), high=pl.Series(high), role=pl.lit("in the fit")
    )
    return pl.concat([fitted.select(frame.columns), frame], how="vertical_relaxed").with_columns(
        pl.col("low", "high").fill_nan(None)
    )


def _check_table(outcome: Outcome) -> Table:
    names = ("Run", "Depth", "Predicted", "Interval", "Measured", "Measured ÷ predicted − 1", "In the interval")
    rows = tuple(
        (
            text_cell(check.run),
            Cell(value=check.depth, text=str(check.depth)),
            Cell(value=check.predicted, text=units.loss(check.predicted)),
            Cell(value=f"{check.interval[0]!r} to {check.interval[1]!r}", text=units.interval(check.interval, 4)),
            Cell(value=check.measured, text=units.loss(check.measured)),
            Cell(value=check.error, text=units.percent(check.error, 2, signed=True)),
            Cell(value=check.held, text="✓ yes" if check.held else "✗ no", tone="good" if check.held else "bad"),
        )
        for check in outcome.checks
    )
    columns = tuple(Column(label=name, numeric=name not in ("Run", "In the interval")) for name in names)
    return Table(title="Held-out runs", columns=columns, rows=rows, note="Source: fit/verdict.json.")
