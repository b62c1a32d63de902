"""A filter in the terminal: how far scoring is, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prx_scale.commands.progress import SECONDS_BETWEEN_LINES
from prx_scale.commands.text import plain_console

if TYPE_CHECKING:
    from prx_scale.data.filters.writing import Result
    from reports.filter_data import CutSummary

_MANY_SKIPPED = 0.05


@contextmanager
def counting(total: int) -> Generator[Callable[[int, int], None]]:
    """A bar of samples on standard error, or lines now and then where that is no terminal.

    Args:
        total: samples to come.

    Yields:
        Takes how many more are done, and how many of them were scored now.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    began = said = time.monotonic()
    done = new = 0
    with Progress(*columns, rate, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("samples", total=total, rate="")

        def show(more: int, scored: int) -> None:
            nonlocal done, new, said
            done, new = done + more, new + scored
            at = time.monotonic()
            rate = f"{new / max(at - began, 1e-9):,.0f}/s"
            progress.update(task, completed=done, rate=rate)
            if not console.is_terminal and at - said > SECONDS_BETWEEN_LINES:
                said = at
                console.print(f"{done:,} of {total:,} samples scored, {rate}")

        yield show


def print_result(result: Result, folder: Path) -> None:
    """Print what was removed, kept and skipped.

    Args:
        result: of a filter.
        folder: that it was written to.
    """
    from prx_scale.data.filters.summary import cut_summaries
    from prx_scale.data.filters.writing import skipped_by_reason

    console, verdict = plain_console(), result.verdict
    total, kept = len(verdict.keep), int(verdict.keep.sum())
    console.print(Text(f"{kept:,} of {total:,} samples kept ({_share(kept, total)}), from {result.source.spec}"))
    skipped = skipped_by_reason(result.scores)
    if skipped:
        why = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        console.print(Text(f"{sum(skipped.values()):,} could not be used: {why}"), soft_wrap=True)
    if verdict.counts:
        console.print(_table(cut_summaries(verdict), total - sum(skipped.values())))
    if verdict.copies is not None:
        console.print(f"{int((verdict.copies >= 0).sum()):,} are copies of another ({result.rules.distance} bits)")
    if result.rules.weights:
        console.print(
            f"weights up to {verdict.weight.max(initial=0):.3g}; effective samples {verdict.effective:,.0f} "
            f"({_share(verdict.effective, kept)} of those kept)"
        )
    for line in _notes(result, kept, sum(skipped.values()), total):
        console.print(Text.assemble(("note ", "cyan"), line), soft_wrap=not console.is_terminal)
    console.print(Text(f"the result is in {folder}: manifest.json, samples/*.parquet"), soft_wrap=True)


def _table(cuts: tuple[CutSummary, ...], total: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(("cut", "removes alone", "in order", "no other does", "lack the score", "left")):
        table.add_column(heading, justify="right" if place else "left")
    for each in cuts:
        numbers = (each.alone, each.first, each.only, each.missing)
        table.add_row(
            Text(each.shown), *(f"{number:,}" for number in numbers), f"{each.left:,} ({_share(each.left, total)})"
        )
    return table


def _notes(result: Result, kept: int, skipped: int, total: int) -> list[str]:
    notes: list[str] = []
    if not kept:
        notes.append("[nothing-left] No sample is kept; look at what each cut removes alone.")
    if skipped > _MANY_SKIPPED * total:
        notes.append(f"[many-skipped] {_share(skipped, total)} could not be used; the table's column detail says why.")
    for each in result.verdict.counts:
        if each.missing and not each.cut.or_none and not each.cut.of_text:
            notes.append(
                f"[missing] '{each.cut.text}' also removes the {each.missing:,} samples that lack the score; "
                f"'{each.cut.text} or none' would let them pass."
            )
    return notes


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"
