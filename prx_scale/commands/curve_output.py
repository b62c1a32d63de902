"""Extrapolated training curves in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console

if TYPE_CHECKING:
    from prx_scale.commands.curve import Extended
    from scaling.curves import Origin

_FAR = 3.0  # times the last measured step beyond which a reader is warned


def print_curves(results: Sequence[Extended], notices: Sequence[str], source: str, level: float) -> None:
    """Print predictions.

    Args:
        results: a run each.
        notices: what was cut off or left out.
        source: where the curves came from.
        level: level of the intervals.
    """
    console = plain_console()
    console.print(Text("L(s) = E + K (s + s0)^-g", style="bold"))
    for line in (f"{len(results)} run{'s' * (len(results) != 1)} from {source}", *notices):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print()
    console.print(_prediction_table(results, level))
    if any(each.origins for each in results):
        console.print()
        console.print(_backtest_table(results, level))
    for line in _notes(results):
        console.print(Text.assemble(("note ", "cyan"), line), soft_wrap=not console.is_terminal)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(title, style="bold") if title else None, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _prediction_table(results: Sequence[Extended], level: float) -> Table:
    measured = any(each.measured is not None for each in results)
    headings = ["run", "losses", "to step", "at step", "loss", f"{level:.0%} interval", "E", "g", "shared", "widened"]
    table = _table("", *headings, *["measured"] * measured)
    for each in results:
        run = each.prediction
        floor, power = run.parameters["E"], run.parameters["g"]
        widened = f"x{run.widened:.2f} of {run.tests}" if run.tests else "not tested"
        cells = [run.run, str(run.n), f"{run.last:g}", f"{run.to:g}", f"{run.loss:.4f}", _between(run.interval, 4)]
        cells += [_between(floor.interval, 3), _between(power.interval, 2), str(run.borrowed), widened]
        if measured:
            cells.append("" if each.measured is None else f"{each.measured:.4f}")
        table.add_row(*cells)
    return table


def _backtest_table(results: Sequence[Extended], level: float) -> Table:
    headings = ("run", "from step", "at step", "predicted", f"{level:.0%} interval", "measured", "error", "inside")
    table = _table("backtest: the last loss, from earlier parts of the run", *headings)
    for each in results:
        for origin in each.origins:
            table.add_row(each.prediction.run, *_origin_cells(origin))
    return table


def _origin_cells(origin: Origin) -> list[str]:
    run = origin.prediction
    error = f"{origin.error / origin.measured:+.1%}"
    inside = "yes" if origin.inside else "no"
    ends = _between(run.interval, 4)
    return [f"{run.last:g}", f"{run.to:g}", f"{run.loss:.4f}", ends, f"{origin.measured:.4f}", error, inside]


def _notes(results: Sequence[Extended]) -> list[str]:
    notes: list[str] = []
    origins = [origin for each in results for origin in each.origins]
    if origins:
        inside = sum(origin.inside for origin in origins)
        notes.append(f"[backtest] {inside} of {len(origins)} measured losses are inside their intervals.")
    far = [each.prediction.run for each in results if each.prediction.to > _FAR * each.prediction.last]
    if far:
        notes.append(
            f"[extrapolation] {far[0]} is predicted beyond {_FAR:g} times its last step: a guess of its floor."
        )
    if any(each.prediction.tests == 0 and each.prediction.to > each.prediction.last for each in results):
        notes.append(
            "[untested] No run, and no earlier part of this one, tests an interval that is not widened: it holds if the"
            " law does, and curves of real runs often bend otherwise."
        )
    return notes


def _between(pair: tuple[float, float], digits: int) -> str:
    return f"{pair[0]:.{digits}f} to {pair[1]:.{digits}f}"
