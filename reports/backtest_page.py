"""The page of a backtest, for ``prx-scale backtest --html``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl

from reports import units
from reports.backtest_frames import prediction_frame, running_frame
from reports.charts import backtest as charts
from reports.page import Block, Cell, Column, Details, Fact, Facts, Figure, Page, Prose, Section, Table, Tone, text_cell
from reports.render import render_html
from reports.sections.fit import origin_details
from scaling.backtest_records import MAX_REACH, Backtest, Score
from scaling.provenance import Provenance

_SCORES = ("Mean abs", "Signed", "Largest")


def render_backtest_page(result: Backtest, provenance: Provenance) -> str:
    """The whole page as HTML.

    Args:
        result: the backtest.
        provenance: where its points came from.
    """
    return render_html(build_backtest_page(result, provenance))


def build_backtest_page(result: Backtest, provenance: Provenance) -> Page:
    """The page as data.

    Args:
        result: the backtest.
        provenance: where its points came from.
    """
    names = ", ".join(Path(source).name for source in provenance.sources) or "points in memory"
    cuts = units.plural(result.n_cuts, "cut")
    if result.n_cuts != result.n_possible:
        cuts += f" of {result.n_possible} possible"
    notes = tuple(Prose(text=notice.message, tone=_tone(notice.code)) for notice in result.notices)
    return Page(
        title=f"Backtest: {units.listing([each.law for each in result.standings])}",
        subtitle=f"{units.plural(provenance.n_used, 'point')} from {names}, {cuts} in compute: runs that end below a "
        "cut were fitted, rows from it on predicted.",
        sections=(
            Section(key="summary", title="Summary", blocks=(_facts(result), *notes, _standing_table(result))),
            Section(key="reach", title="How far the laws reach", blocks=tuple(_figures(result, names))),
            Section(key="cuts", title="Cut by cut", blocks=tuple(_cut_tables(result))),
            Section(key="provenance", title="Where the numbers came from", blocks=(origin_details(provenance),)),
        ),
        footer=f"Made by prx-scale {provenance.version} on {units.moment(provenance.created)}.",
    )


def _tone(code: str) -> Tone:
    return "plain" if code == "best-law" else "warning"


def _facts(result: Backtest) -> Facts:
    items: list[Fact] = []
    for rank, each in enumerate(result.standings[:4], start=1):
        note = "mean absolute error, far predictions weigh more"
        text = units.percent(each.weighted_abs, 2)
        items.append(Fact(label=f"{rank}. {each.law}", value=each.weighted_abs, text=text, note=note))
    return Facts(items=tuple(items))


def _standing_table(result: Backtest) -> Table:
    names = ("Law", "Far-weighted abs", *_SCORES, *_interval_names(result), "Cuts too high", "Cuts too low")
    rows = tuple(
        (
            text_cell(each.law),
            Cell(value=each.weighted_abs, text=units.percent(each.weighted_abs, 2)),
            *_score_cells(result, each.score),
            Cell(value=each.n_high, text=str(each.n_high)),
            Cell(value=each.n_low, text=str(each.n_low)),
        )
        for each in result.standings
    )
    return _table(
        f"Laws, best first: predictions up to {MAX_REACH:g} times the compute fitted",
        names,
        rows,
        "Errors are log measured − log predicted: negative where the prediction was too high.",
    )


def _figures(result: Backtest, names: str) -> list[Block]:
    frame, laws = prediction_frame(result), [each.law for each in result.predictions]
    source = f"Source: {names}, {result.n_cuts} cuts."
    blocks: list[Block] = [_error_figure(result, frame, laws, source)]
    blocks += _size_figures(frame, laws, source)
    if result.bootstrap:
        blocks += _interval_figures(result, frame, laws, source)
    return blocks


def _error_figure(result: Backtest, frame: pl.DataFrame, laws: list[str], source: str) -> Figure:
    running = running_frame(frame, "error", lambda values: float(np.median(values)))
    shown = min(len(frame), charts.MOST_POINTS * len(laws))
    thinned = f" {shown} of {len(frame)} points are drawn." if shown < len(frame) else ""
    beyond = f" Right of the rule at {MAX_REACH:g}× predictions do not count for the rank."
    return Figure(
        key="backtest-errors",
        title="Error against extrapolation",
        subtitle="One point for every cut and held-out row, so that one run is there several times; lines are running "
        "medians. A line that leaves zero is a law that is wrong to one side."
        + (beyond if frame["factor"].to_numpy().max() > MAX_REACH else "")
        + thinned,
        chart=charts.errors(frame, running, laws),
        description="Scatter of the relative error of every prediction against the compute predicted over the largest "
        "compute fitted, with the running median of each law.",
        source=source,
        table=_bin_table(result),
    )


def _size_figures(frame: pl.DataFrame, laws: list[str], source: str) -> list[Block]:
    size = running_frame(frame, "error", lambda values: float(np.median(np.abs(values))))
    if size.is_empty():
        return [Prose(text="Too few predictions to show how errors run with extrapolation.", tone="note")]
    return [
        Figure(
            key="backtest-sizes",
            title="Size of the error against extrapolation",
            subtitle="Running median of the absolute error: the law whose line stays lowest extrapolates best.",
            chart=charts.sizes(size, laws, "Median of |measured ÷ predicted − 1|"),
            description="Lines of the median absolute error against extrapolation, one a law.",
            source=source,
        )
    ]


def _interval_figures(result: Backtest, frame: pl.DataFrame, laws: list[str], source: str) -> list[Block]:
    level = units.percent(result.level, 0)
    covered = running_frame(frame, "inside", lambda values: float(np.mean(values)))
    wide = running_frame(frame, "width", lambda values: float(np.median(values)))
    if covered.is_empty():
        return []
    return [
        Figure(
            key="backtest-coverage",
            title=f"Coverage of the {level} intervals",
            subtitle=f"Share of the measured losses inside their interval, over a sliding window. The rule is {level}: "
            "below it, intervals are too narrow.",
            chart=charts.coverage(covered, laws, result.level),
            description="Lines of the share of predictions inside their interval against extrapolation, one a law.",
            source=source,
        ),
        Figure(
            key="backtest-widths",
            title=f"Width of the {level} intervals",
            subtitle="Running median of upper over lower bound, minus one: what that coverage was paid with.",
            chart=charts.sizes(wide, laws, "Upper ÷ lower bound − 1"),
            description="Lines of the median width of the intervals against extrapolation, one a law.",
            source=source,
        ),
    ]


def _bin_table(result: Backtest) -> Table:
    names = ("Law", "Reach", "Predictions", "Rows", *_SCORES, *_interval_names(result))
    rows = tuple(
        (
            text_cell(each.law),
            text_cell(f"{each.low:g}× to {each.high:g}×"),
            Cell(value=each.score.n, text=units.count(each.score.n)),
            Cell(value=each.n_rows, text=units.count(each.n_rows)),
            *_score_cells(result, each.score),
        )
        for each in result.bins
    )
    return _table("By compute predicted over the largest fitted", names, rows)


def _cut_tables(result: Backtest) -> list[Block]:
    names = ("Cut (FLOPs)", "Fitted", "Predicted", "Reach", *_SCORES, *_interval_names(result), "Fit")
    blocks: list[Block] = []
    for standing in result.standings:
        rows = tuple(
            (
                Cell(value=cut.flops, text=units.flops(cut.flops)),
                Cell(value=cut.n_fit, text=units.count(cut.n_fit)),
                Cell(value=cut.n_test, text=units.count(cut.n_test)),
                Cell(value=cut.extrapolation, text=f"{units.significant(cut.extrapolation, 3)}×"),
                *_score_cells(result, cut.score),
                text_cell(cut.status),
            )
            for cut in result.cuts
            if cut.law == standing.law
        )
        table = _table(f"{standing.law} by cut", names, rows)
        blocks.append(Details(summary=f"{standing.law}: {units.plural(len(rows), 'cut')}", blocks=(table,)))
    return blocks


def _interval_names(result: Backtest) -> tuple[str, ...]:
    return (f"In {units.percent(result.level, 0)} interval", "Width") if result.bootstrap else ()


def _score_cells(result: Backtest, score: Score) -> tuple[Cell, ...]:
    errors = (
        Cell(value=score.mean_abs, text=units.percent(score.mean_abs, 2)),
        Cell(value=score.mean_signed, text=units.percent(score.mean_signed, 2, signed=True)),
        Cell(value=score.max_abs, text=units.percent(score.max_abs, 2)),
    )
    if not result.bootstrap:
        return errors
    width = math.expm1(score.log_width)
    return (
        *errors,
        Cell(value=score.coverage, text=units.percent(score.coverage, 0)),
        Cell(value=score.log_width, text=units.percent(width, 1)),
    )


def _table(title: str, names: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...], note: str = "") -> Table:
    columns = tuple(Column(label=name, numeric=name not in ("Law", "Reach", "Fit")) for name in names)
    return Table(title=title, columns=columns, rows=rows, note=note)
