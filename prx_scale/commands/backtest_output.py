"""A backtest in the terminal: laws by rank, coverage by extrapolation, errors by cut, and what they say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console
from scaling.backtest_records import MAX_REACH, Backtest, Score

if TYPE_CHECKING:
    from prx_scale.sources import Loaded

_SCORES = ("mean abs", "signed", "max")


def print_backtest(result: Backtest, loaded: Loaded) -> None:
    """Print a backtest.

    Args:
        result: the backtest.
        loaded: the points it was made on, for their origin.
    """
    console = plain_console()
    origin = loaded.provenance
    lines = [f"{origin.n_used} points of {origin.n_rows} rows from {', '.join(origin.sources)}", *loaded.notices]
    lines += [_cuts_line(result), "errors are log measured - log predicted: negative where the prediction was too high"]
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    for table in (_standing_table(result), _bin_table(result), *_cut_tables(result)):
        console.print()
        console.print(table)
    console.print()
    for notice in result.notices:
        line = Text.assemble(("note ", "cyan"), f"[{notice.code}] {notice.message}")
        console.print(line, soft_wrap=not console.is_terminal)


def _cuts_line(result: Backtest) -> str:
    count = f"{result.n_cuts} cut{'s' if result.n_cuts != 1 else ''}"
    if result.n_cuts != result.n_possible:
        count += f" of {result.n_possible} possible"
    intervals = f"{result.bootstrap} resamples each" if result.bootstrap else "no intervals"
    return f"{count}, {intervals}; runs that end below the cut are fitted, rows from it on predicted"


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold"), title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "law" else "right")
    return table


def _standing_table(result: Backtest) -> Table:
    table = _table(
        f"laws, best first: predictions up to {MAX_REACH:g}x",
        "law",
        "far-weighted abs",
        *_SCORES,
        f"in {result.level:.0%} interval",
        "width",
        "cuts too high / low",
        "AICc",
        "BIC",
    )
    for each in result.standings:
        criteria = (f"{each.aicc:.1f}", f"{each.bic:.1f}")
        table.add_row(
            each.law, f"{each.weighted_abs:.5f}", *_cells(each.score), f"{each.n_high} / {each.n_low}", *criteria
        )
    return table


def _bin_table(result: Backtest) -> Table:
    headings = ("law", "reach", "predictions", "rows", *_SCORES, f"in {result.level:.0%} interval", "width")
    table = _table("by compute predicted over the largest fitted", *headings, "law only", "width")
    for each in result.bins:
        reach = f"{each.low:g}x to {each.high:g}x"
        law_only = _interval_cells(each.score.law_coverage, each.score.law_log_width)
        table.add_row(each.law, reach, str(each.score.n), str(each.n_rows), *_cells(each.score), *law_only)
    return table


def _cut_tables(result: Backtest) -> list[Table]:
    headings = ("cut", "fitted", "predicted", "reach", *_SCORES, f"in {result.level:.0%} interval", "width")
    tables: list[Table] = []
    for standing in result.standings:
        table = _table(f"{standing.law} by cut", *headings)
        for cut in result.cuts:
            if cut.law == standing.law:
                counts = (str(cut.n_fit), str(cut.n_test), f"{cut.extrapolation:.3g}x")
                table.add_row(f"{cut.flops:.3g}", *counts, *_cells(cut.score))
        tables.append(table)
    return tables


def _cells(score: Score) -> tuple[str, ...]:
    errors = (f"{score.mean_abs:.5f}", f"{score.mean_signed:+.5f}", f"{score.max_abs:.5f}")
    return *errors, *_interval_cells(score.coverage, score.log_width)


def _interval_cells(coverage: float, log_width: float) -> tuple[str, str]:
    return ("-", "-") if math.isnan(coverage) else (f"{coverage:.0%}", f"{log_width:.4f}")
