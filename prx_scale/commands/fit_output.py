"""A fit in the terminal: tables of parameters and predictions, and warnings as sentences."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console
from scaling import FitResult
from scaling.summary import Grid, criteria_line, headline, parameter_grid, prediction_grid

_HEAD = 3  # lines before what was assumed when the points were read


def print_fit(result: FitResult, notices: tuple[str, ...]) -> None:
    """Print a fit.

    Args:
        result: the fit.
        notices: what was assumed when the points were read.
    """
    console = plain_console()
    law, *lines = headline(result)
    console.print(Text(law, style="bold"))
    for line in (*lines[: _HEAD - 1], *notices, *lines[_HEAD - 1 :]):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print(_table(parameter_grid(result)))
    console.print(Text(criteria_line(result)))
    predictions = prediction_grid(result)
    if predictions is not None:
        console.print(_table(predictions))
    for warning in result.warnings:
        line = Text.assemble(("warning ", "yellow"), f"[{warning.code}] {warning.message}")
        console.print(line, soft_wrap=not console.is_terminal)


def _table(grid: Grid) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(grid.headings):
        table.add_column(heading, justify="left" if grid.names and number == 0 else "right")
    for row in grid.rows:
        table.add_row(*row)
    return table
