"""Correlations of loss and metric in the terminal: a table and the sentence that it comes to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import plain_console

if TYPE_CHECKING:
    from prx_scale.lossmetric import Checkpoints
    from scaling import Estimate, Notice
    from scaling.correlation import Trends


def print_trends(checkpoints: Checkpoints, result: Trends, verdict: Notice, level: float) -> None:
    """Print the correlations of one metric.

    Args:
        checkpoints: what was correlated.
        result: the correlations.
        verdict: what they say.
        level: level of the intervals.
    """
    console = plain_console()
    console.print(Text(f"{checkpoints.metric} against validation loss", style="bold"))
    runs, depths = result.n_clusters, result.n_groups
    counts = f"{result.n} checkpoints of {runs} run{'s' * (runs != 1)} at {depths} depth{'s' * (depths != 1)}"
    lines = (f"{counts}; intervals resample whole runs", *checkpoints.notices)
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    console.print(_table(result, level))
    line = Text.assemble(("note ", "cyan"), f"[{verdict.code}] {verdict.message}")
    console.print(line, soft_wrap=not console.is_terminal)
    console.print()


def _table(result: Trends, level: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("correlation", "value", "stderr", f"{level:.0%} interval"):
        table.add_column(heading, justify="left" if heading == "correlation" else "right")
    rows = {
        "Pearson, all checkpoints": result.pearson,
        "Spearman, all checkpoints": result.spearman,
        "Kendall, all checkpoints": result.kendall,
        "Pearson, at equal depth": result.partial,
        "Pearson, within runs": result.within,
        "Pearson, between means of runs": result.between,
    }
    for name, estimate in rows.items():
        table.add_row(name, *_cells(estimate))
    return table


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    if math.isnan(estimate.value):
        return "-", "-", "-"
    low, high = estimate.interval
    if math.isnan(low):
        return f"{estimate.value:+.3f}", "-", "-"
    return f"{estimate.value:+.3f}", f"{estimate.stderr:.3f}", f"{low:+.3f} to {high:+.3f}"
