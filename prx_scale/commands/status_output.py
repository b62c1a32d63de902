"""The status of a study as lines of a terminal: columns are left out where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from prx_scale.commands.text import duration, number

if TYPE_CHECKING:
    from slurm.failures import FailureGroup
    from slurm.status import RunStatus, StudyStatus

GAP = 2
LEAST_REASON = 20
"""Characters of the reason that must fit before a column is left out for it."""
STYLES = {
    "running": "green",
    "done": "dim",
    "failed": "red",
    "killed": "red",
    "waiting": "yellow",
    "cancelled": "magenta",
}
INTEREST = ("running", "failed", "killed", "interrupted", "waiting", "cancelled", "pending", "done")
"""Which runs are shown first where not all fit."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table."""

    heading: str
    cell: Callable[[RunStatus], str]
    left: bool = False
    """Whether it is aligned left."""


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


COLUMNS = (
    Column(heading="run", cell=lambda row: row.run, left=True),
    Column(heading="depth", cell=lambda row: str(row.depth)),
    Column(heading="params", cell=lambda row: "" if row.params is None else number(row.params)),
    Column(heading="state", cell=lambda row: row.state, left=True),
    Column(heading="step", cell=lambda row: f"{row.step}/{row.steps}"),
    Column(heading="loss", cell=lambda row: "" if row.loss is None else f"{row.loss:.4f}"),
    Column(
        heading="images/s",
        cell=lambda row: "" if row.samples_per_second is None else f"{row.samples_per_second:,.0f}",
    ),
    Column(heading="MFU", cell=lambda row: _share(row.mfu)),
    Column(heading="restarts", cell=lambda row: str(row.restarts or "")),
    Column(heading="left", cell=lambda row: duration(row.seconds_left)),
    Column(heading="limit in", cell=lambda row: duration(row.limit_seconds_left)),
    Column(heading="where", cell=lambda row: row.where, left=True),
    # The process of a run on this machine says no more than where it is.
    Column(heading="job", cell=lambda row: row.job if row.job and ":" not in row.job else "", left=True),
    Column(heading="reason", cell=lambda row: row.reason or "", left=True),
)
DROPPED_FIRST = ("params", "limit in", "job", "depth", "MFU", "restarts", "where", "images/s", "loss", "left", "reason")
"""Where not all fit; the others always stay."""


def table(rows: Sequence[RunStatus], width: int | None) -> list[Text]:
    """The table of runs, its heading first.

    Args:
        rows: the runs.
        width: of the terminal; None where lines may be as long as they need.
    """
    cells = {column.heading: [column.cell(row) for row in rows] for column in COLUMNS}
    columns = [column for column in COLUMNS if any(cells[column.heading])]
    widths = {column.heading: max(len(column.heading), *map(len, cells[column.heading])) for column in columns}
    columns = fitting(columns, widths, width)
    if width is not None and columns[-1].heading == "reason":
        before = sum(widths[column.heading] + GAP for column in columns[:-1])
        widths["reason"] = min(widths["reason"], max(1, width - before))
    lines = [_line([column.heading for column in columns], columns, widths, "bold")]
    for index, row in enumerate(rows):
        texts = [cells[column.heading][index] for column in columns]
        lines.append(_line(texts, columns, widths, STYLES.get(row.state, "")))
    return lines


def fitting(columns: Sequence[Column], widths: dict[str, int], width: int | None) -> list[Column]:
    """The columns that fit into a width, the least important left out.

    Args:
        columns: in their order.
        widths: of their longest cells, by heading.
        width: of the terminal; None for all.
    """
    kept = list(columns)
    for heading in DROPPED_FIRST:
        needed = sum(_needs(column, widths) + GAP for column in kept) - GAP
        if width is None or needed <= width:
            break
        kept = [column for column in kept if column.heading != heading]
    return kept


def _needs(column: Column, widths: dict[str, int]) -> int:
    return min(widths[column.heading], LEAST_REASON) if column.heading == "reason" else widths[column.heading]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: dict[str, int], style: str) -> Text:
    padded: list[str] = []
    for cell, column in zip(cells, columns, strict=True):
        size = widths[column.heading]
        text = cell if len(cell) <= size else f"{cell[: size - 1]}…"
        padded.append(text.ljust(size) if column.left else text.rjust(size))
    line = Text((" " * GAP).join(padded).rstrip(), no_wrap=True, overflow="ellipsis")
    if style == "bold":
        line.stylize("bold")
    elif style:
        _colour_state(line, columns, widths, style)
    return line


def _colour_state(line: Text, columns: Sequence[Column], widths: dict[str, int], style: str) -> None:
    before = 0
    for column in columns:
        if column.heading == "state":
            line.stylize(style, before, before + widths["state"])
        before += widths[column.heading] + GAP


def of_interest(rows: Sequence[RunStatus], most: int) -> tuple[list[RunStatus], int]:
    """The runs that are shown where not all fit, in their order, and how many are not.

    Args:
        rows: all runs.
        most: lines that there are.
    """
    if len(rows) <= most:
        return list(rows), 0
    order = {state: place for place, state in enumerate(INTEREST)}
    ranked = sorted(range(len(rows)), key=lambda index: (order.get(rows[index].state, len(order)), index))
    shown = sorted(ranked[:most])
    return [rows[index] for index in shown], len(rows) - most


def summary(status: StudyStatus) -> list[Text]:
    """The lines below the table: counts, the jobs that follow, and what could not be asked.

    Args:
        status: of a study.
    """
    from slurm.failures import counted_states

    lines = [Text(counted_states(status)), *(Text(each.line) for each in status.following)]
    if status.warning:
        lines.append(Text(f"warning: {status.warning}", style="yellow"))
    return lines


def failures(groups: Sequence[FailureGroup]) -> list[Text]:
    """What failed, by cause: who, the last useful lines, what helps, and where the log is.

    Args:
        groups: of a study.
    """
    from slurm.failures import shortened_runs

    lines: list[Text] = []
    for group in groups:
        lines += [Text(), Text(group.heading, style="bold red")]
        lines.append(Text(f"  {shortened_runs(group.runs)}"))
        lines += [Text(f"    {line}", style="dim") for line in group.failures[0].lines]
        lines.append(Text(f"  {group.cause.advice}"))
        if log := group.failures[0].log:
            lines.append(Text(f"  log: {log}"))
    return lines
