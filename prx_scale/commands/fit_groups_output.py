"""Fits of several groups in the terminal: one table of parameters, one of predictions, and warnings by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console
from scaling.summary import parameter_grid

if TYPE_CHECKING:
    from prx_scale.commands.fit_groups import GroupFit
    from prx_scale.sources import Loaded
    from scaling import Prediction


def print_groups(fits: Sequence[GroupFit], skipped: Sequence[tuple[dict[str, str], str]], loaded: Loaded) -> None:
    """Print the fits of all groups.

    Args:
        fits: those that could be fitted.
        skipped: the values of the others, and why they could not.
        loaded: the points of all groups together.
    """
    console = plain_console()
    first, origin = fits[0].result, loaded.provenance
    pairs = ", ".join(f"{key} = {column}" for key, column in origin.columns.items())
    console.print(Text(f"{first.law}: {first.formula}", style="bold"))
    lines = [
        f"{loaded.points.n} points of {origin.n_rows} rows from {', '.join(origin.sources)}",
        *(f"{count} left out: {reason}" for reason, count in origin.dropped),
        f"columns: {pairs}; by {', '.join(loaded.by)}",
        *loaded.notices,
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print()
    console.print(_parameter_table(fits, loaded.by))
    if any(each.result.predictions for each in fits):
        console.print(_prediction_table(fits, loaded.by))
    for values, reason in skipped:
        line = Text.assemble(("skipped ", "yellow"), f"{', '.join(values.values())}: {reason}")
        console.print(line, soft_wrap=not console.is_terminal)
    for each in fits:
        for warning in each.result.warnings:
            line = Text.assemble(("warning ", "yellow"), f"{each.name} [{warning.code}] {warning.message}")
            console.print(line, soft_wrap=not console.is_terminal)


def _parameter_table(fits: Sequence[GroupFit], by: Sequence[str]) -> Table:
    """A row a parameter and group, so that the groups of a parameter stand together and any number of them fits."""
    table = Table(box=None, pad_edge=False)
    for heading in ("parameter", *by, "points", "value", "stderr", f"{fits[0].result.level:.0%} interval"):
        table.add_column(heading, justify="left" if heading in ("parameter", *by) else "right")
    grids = [parameter_grid(each.result) for each in fits]
    for rows in zip(*(grid.rows for grid in grids), strict=True):
        for each, (name, *cells) in zip(fits, rows, strict=True):
            shown = name if each is fits[0] else ""
            table.add_row(shown, *each.values.values(), str(each.result.n_points), *cells)
    return table


def _prediction_table(fits: Sequence[GroupFit], by: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    unit, level = fits[0].result.provenance.data_unit, fits[0].result.level
    for heading in (*by, "predict: params", unit, "flops", "loss", f"{level:.0%} interval for a new run"):
        table.add_column(heading, justify="left" if heading in by else "right")
    for each in fits:
        for run in each.result.predictions:
            table.add_row(*each.values.values(), *_run_cells(run))
    return table


def _run_cells(run: Prediction) -> tuple[str, ...]:
    sizes = ("-" if size is None else f"{size:.4g}" for size in (run.params, run.data, run.flops))
    low, high = run.interval
    return *sizes, f"{run.loss:.4f}", "-" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
