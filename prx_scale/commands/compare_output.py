"""A comparison of variants in the terminal: the choices, the effects, and the sentences that they come to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling.comparison_records import Comparison

_SHOWN = 8  # choices in the table; all are in the JSON


def print_comparison(result: Comparison, loaded: Loaded) -> None:
    """Print a comparison.

    Args:
        result: the comparison.
        loaded: the points that it was made from.
    """
    console = plain_console()
    console.print(Text(f"{result.law}: {result.formula}", style="bold"))
    counts = ", ".join(f"{name} ({count})" for name, count in zip(result.variants, result.counts, strict=True))
    paired = f", {result.paired} of them places where several variants ran" if result.paired else ""
    centre = ", ".join(f"{axis} {value:.3g}" for axis, value in result.centre.items())
    lines = (
        f"{result.n_points} points from {', '.join(loaded.provenance.sources)}: {counts}; baseline {result.baseline}",
        f"intervals: wild bootstrap of {result.n_clusters} independent units{paired}",
        f"coefficients are compared at {centre}, the geometric mean of the points",
        *loaded.notices,
    )
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print(_candidate_table(result))
    if result.effects:
        console.print(_effect_table(result))
    if result.equivalents:
        console.print(_equivalent_table(result))
    console.print()
    for sentence in result.sentences:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    for notice in result.notices:
        line = Text.assemble(("warning ", "yellow"), f"[{notice.code}] {notice.message}")
        console.print(line, soft_wrap=not console.is_terminal)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="", box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    return table


def _candidate_table(result: Comparison) -> Table:
    more = len(result.candidates) - _SHOWN
    rest = f"; {more} more in the JSON" if more > 0 else ""
    table = _table(f"what may differ, best first{rest}", "differs", "parameters", "LR", "p", "AICc", "BIC")
    shown = [each for i, each in enumerate(result.candidates) if i < _SHOWN or not each.vary]
    for each in shown:
        p = "-" if math.isnan(each.p_value) else f"{each.p_value:.2g}"
        numbers = (f"{each.likelihood_ratio:.1f}", p, f"+{each.aicc:.1f}", f"+{each.bic:.1f}")
        table.add_row(", ".join(each.vary) or "nothing", str(each.n_parameters), *numbers)
    return table


def _effect_table(result: Comparison) -> Table:
    title = f"against {result.baseline}" + ("" if result.selected.vary else ", were all parameters to differ")
    table = _table(title, "variant", "parameter", "change", f"{result.level:.0%} interval")
    for effect in result.effects:
        low, high = effect.interval
        sign, digits = ("x", ".4f") if effect.kind == "ratio" else ("", "+.4f")
        span = "-" if math.isnan(low) else f"{sign}{low:{digits}} to {sign}{high:{digits}}"
        table.add_row(effect.variant, effect.parameter, f"{sign}{effect.value:{digits}}", span)
    return table


def _equivalent_table(result: Comparison) -> Table:
    table = _table(
        f"needed for the loss of {result.baseline}",
        "variant",
        "of",
        "at",
        "loss",
        "needs",
        f"{result.level:.0%} interval",
    )
    for each in result.equivalents:
        low, high = each.interval
        span = "-" if math.isnan(low) else f"x{low:.3g} to x{high:.3g}"
        table.add_row(each.variant, each.axis, f"{each.at:.3g}", f"{each.loss:.4f}", f"x{each.ratio:.3g}", span)
    return table
