"""A frontier in the terminal: optima by budget, exponents, loss along it, and warnings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import number, plain_console, with_interval

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling.frontier import Frontier, LossLaw


def print_frontier(result: Frontier, loaded: Loaded, places: Sequence[float]) -> None:
    """Print a frontier.

    Args:
        result: the frontier.
        loaded: the points it was found in, for their origin.
        places: budgets at which N* and D* are read off the lines.
    """
    console = plain_console()
    origin, unit = loaded.provenance, loaded.provenance.data_unit
    rows = f"{result.n_points} of {origin.n_rows} rows from {', '.join(origin.sources)}"
    for line in (f"{result.method}: {result.description}", rows, *loaded.notices, f"intervals: {result.resampling}"):
        console.print(Text(line), soft_wrap=True)
    optima = _optima_table(result, unit) if result.method == "isoflop" else _winner_table(result, unit)
    tables = [optima, _exponent_table(result)]
    if result.loss_laws:
        tables.append(_loss_table(result))
    if places:
        tables.append(_places_table(result, unit, places))
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    for notice in result.notices:
        console.print(Text.assemble(("warning ", "yellow"), f"[{notice.code}] {notice.message}"), soft_wrap=True)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold"), title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "law", "flags") else "right")
    return table


def _optima_table(result: Frontier, unit: str) -> Table:
    title = f"optimum of every budget, with {result.level:.0%} intervals"
    table = _table(title, "FLOPs", "rows", "sizes", "trained", "params N*", f"{unit} D*", "loss", "flags")
    for each in result.optima:
        trained = f"{number(each.sizes[0])}-{number(each.sizes[1])}"
        cells = ("-", "-", "-")
        if not math.isnan(each.params):
            cells = (
                with_interval(each.params, each.params_interval),
                with_interval(each.data, each.data_interval),
                f"{each.loss:.4f}",
            )
        flags = ", ".join((*each.flags, *(() if each.used else ("left out",))))
        style = None if each.used else "dim"
        table.add_row(f"{each.flops:.3g}", str(each.n_rows), str(each.n_sizes), trained, *cells, flags, style=style)
    return table


def _winner_table(result: Frontier, unit: str) -> Table:
    """One row per stretch of compute over which one size is the lowest."""
    table = _table("lowest curve by compute", "from FLOPs", "to", "params", f"{unit}", "loss", "flags")
    for (_, flags), stretch in itertools.groupby(result.optima, key=lambda each: (each.params, each.flags)):
        rows = list(stretch)
        first, last = rows[0], rows[-1]
        table.add_row(
            f"{first.flops:.3g}",
            f"{last.flops:.3g}",
            number(first.params),
            f"{number(first.data)}-{number(last.data)}",
            f"{first.loss:.4f}-{last.loss:.4f}",
            ", ".join((*flags, *(() if first.used else ("left out",)))),
            style=None if first.used else "dim",
        )
    return table


def _exponent_table(result: Frontier) -> Table:
    table = _table("lines through the optima", "", "value", "stderr", f"{result.level:.0%} interval")
    rows = (
        ("a (N* ~ C^a)", result.params_exponent),
        ("b (D* ~ C^b)", result.data_exponent),
        ("a + b", result.exponent_sum),
    )
    for name, each in rows:
        low, high = each.interval
        if math.isnan(low):
            table.add_row(name, f"{each.value:.4f}", "-", "-")
        else:
            table.add_row(name, f"{each.value:.4f}", f"{each.stderr:.2g}", f"{low:.4f} to {high:.4f}")
    return table


def _loss_table(result: Frontier) -> Table:
    reference = f"K C^-g at {result.reference:.3g}"
    table = _table("loss of the optima against compute", "law", "E", reference, "g", "sum of squares of log loss")
    for law in result.loss_laws:
        table.add_row(law.law, *(_loss_cells(law)))
    return table


def _loss_cells(law: LossLaw) -> tuple[str, str, str, str]:
    floor = law.parameters.get("E")
    power = law.parameters["g"]
    return (
        "-" if floor is None else _decimals(floor.value, floor.interval),
        f"{law.at_reference:.4f}",
        _decimals(power.value, power.interval),
        f"{law.log_rss:.3e}",
    )


def _decimals(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:.4f}" if math.isnan(low) else f"{value:.4f} ({low:.4f} to {high:.4f})"


def _places_table(result: Frontier, unit: str, places: Sequence[float]) -> Table:
    table = _table("on the lines", "FLOPs", "params N*", f"{unit} D*", "D*/N*")
    for flops in places:
        params, data = result.at(flops)
        cells = with_interval(params.value, params.interval), with_interval(data.value, data.interval)
        table.add_row(f"{flops:.3g}", *cells, number(data.value / params.value))
    return table
