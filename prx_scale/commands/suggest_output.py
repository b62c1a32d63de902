"""A suggestion in the terminal: the runs with what each does for the target, and other uses of the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import number, plain_console

if TYPE_CHECKING:
    from scaling import FitResult
    from scaling.design import Suggestion


def print_suggestion(found: Suggestion, result: FitResult, fragment: str, notices: Sequence[str]) -> None:
    """Print a suggestion.

    Args:
        found: the runs.
        result: the fit behind them.
        fragment: [[variant]] tables for the study; empty where there is none.
        notices: what was assumed when the points were read.
    """
    console = plain_console()
    unit = result.provenance.data_unit
    where = f"params {number(found.target_params)}, {unit} {number(found.target_data)}, {found.target_flops:.3g} FLOPs"
    lines = [
        f"{result.law} fitted to {result.n_points} points from {', '.join(result.provenance.sources)}",
        *notices,
        f"target: {where}; predicted loss {found.loss:.4f}",
        f"{found.level:.0%} interval of the curve there, as a share of the loss: {found.width_before:.2%} wide now,"
        f" {found.width_after:.2%} expected after {found.spent:.3g} of {found.budget:.3g} FLOPs",
        f"a run scatters about the curve by {found.noise:.2%}, which no other run can tell in advance",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    for table in (_run_table(found, unit), _alternative_table(found)):
        console.print()
        console.print(table)
    console.print()
    for notice in found.notices:
        console.print(Text.assemble(("warning ", "yellow"), f"[{notice.code}] {notice.message}"), soft_wrap=True)
    if fragment:
        console.print(Text("for the study file, then `prx-scale sweep` runs them:", style="bold"))
        console.print()
        print(fragment)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold"), title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("run", "instead", "") else "right")
    return table


def _run_table(found: Suggestion, unit: str) -> Table:
    title = "runs to launch, cheapest first"
    table = _table(title, "run", "params", unit, "FLOPs", "in all", "width before", "after", "")
    for i, run in enumerate(found.runs, start=1):
        kind = "repeat, other seed" if run.repeat else ("new size" if run.new_size else "")
        table.add_row(
            run.label or str(i),
            number(run.params),
            number(run.data),
            f"{run.flops:.3g}",
            f"{run.cumulative_flops:.3g}",
            f"{run.width_before:.2%}",
            f"{run.width_after:.2%}",
            kind,
        )
    return table


def _alternative_table(found: Suggestion) -> Table:
    table = _table("the same budget otherwise", "instead", "runs", "FLOPs", "width after")
    for each in found.alternatives:
        table.add_row(each.name, str(each.runs), f"{each.flops:.3g}", f"{each.width_after:.2%}")
    return table
