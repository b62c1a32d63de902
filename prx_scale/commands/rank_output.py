"""A ranking of variants in the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console

if TYPE_CHECKING:
    from scaling.ranking import Ranking


def print_ranking(result: Ranking, source: str) -> None:
    """Print a ranking.

    Args:
        result: the ranking.
        source: file that it was made from.
    """
    console = plain_console()
    count, metrics = len(result.settings), ", ".join(f"{name} ({way})" for name, way in result.directions.items())
    console.print(Text(f"{len(result.standings)} variants by {metrics}", style="bold"))
    settings = f"{count} setting{'s' * (count != 1)}"
    told = f"from {source}; mean front of non-dominated sorting over {settings}; 1 is best"
    console.print(Text(told), soft_wrap=not console.is_terminal)
    console.print()
    console.print(_table(result))
    for line in _notes(result):
        console.print(Text.assemble(("note ", "cyan"), line), soft_wrap=not console.is_terminal)


def _table(result: Ranking) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("variant", "mean rank", f"{result.level:.0%} interval", "on front 1", "settings")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for each in result.standings:
        low, high = each.interval
        between = "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
        table.add_row(each.variant, f"{each.rank:.2f}", between, str(each.first), str(each.settings))
    return table


def _notes(result: Ranking) -> list[str]:
    notes: list[str] = []
    if len(result.settings) == 1:
        notes.append("[one-setting] With one setting nothing is averaged: the rank is the front.")
    if result.dropped:
        variant, setting, metric = result.dropped[0]
        notes.append(
            f"[missing] {len(result.dropped)} values are missing, the first {metric} of {variant} in {setting}: a"
            " variant has no rank in a setting where it lacks a metric."
        )
    if result.incomplete:
        notes.append(
            f"[incomplete] {', '.join(result.incomplete)} lack{'s' * (len(result.incomplete) == 1)} settings, so their"
            " means are over other settings than those of the rest: compare them with care."
        )
    return notes
