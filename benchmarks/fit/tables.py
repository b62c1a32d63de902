"""Measurements as Markdown: one table for the documentation, a short one for the README."""

from __future__ import annotations

import csv
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tools import TASKS, TOOLS
from verify import Verified

DELTA = 1e-3
HEADINGS = {"fit": "one fit", "bootstrap": "1,000 resamples"}


@dataclass(frozen=True, kw_only=True)
class Text:
    """The two tables with the sentences around them."""

    full: str
    short: str


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds for a whole task over the repeats; ``part`` is the share that was done, 1 where all of it."""

    cpu: np.ndarray
    wall: np.ndarray
    part: float

    @property
    def median(self) -> float:
        """Median of processor time."""
        return float(np.median(self.cpu))

    def __str__(self) -> str:
        """Median and range of processor time."""
        sign = "" if self.part == 1 else "about "
        spread = f" ({_seconds(self.cpu.min())} to {_seconds(self.cpu.max())})" if len(self.cpu) > 1 else ""
        return f"{sign}{_seconds(self.median)}{spread}"


def render(rows: Sequence[dict[str, Any]], checked: Verified, points: Path, about: str) -> Text:
    """Both tables.

    Args:
        rows: measurements, see :func:`tools.measure`, with tool and task.
        checked: what refitting resamples gave.
        points: the points of the fits.
        about: the points in words, and the day.
    """
    times = {(tool.name, task): _times(rows, tool.name, task) for tool in TOOLS for task in TASKS}
    reached = {tool.name: _objective(rows, tool.name, points) for tool in TOOLS}
    setting = _setting(rows, about)
    return Text(full=_full(times, reached, checked, setting), short=_short(times, reached, setting))


def write(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of that name in a Markdown page.

    Raises:
        SystemExit: the page has no such marks.
    """
    begin, end = f"<!-- benchmark: {name} -->", f"<!-- end of benchmark: {name} -->"
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", flags=re.DOTALL)
    if not pattern.search(before):
        raise SystemExit(f"{page}: no '{begin}' ... '{end}' to write between")
    page.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", before), encoding="utf-8")
    print(f"wrote {page}")


def _times(rows: Sequence[dict[str, Any]], tool: str, task: str) -> Times | None:
    found = [row for row in rows if (row["tool"], row["task"]) == (tool, task)]
    if not found:
        return None
    scale = np.array([row["of"] / row["done"] for row in found])
    cpu, wall = (np.array([row[kind] for row in found]) * scale for kind in ("cpu", "wall"))
    return Times(cpu=cpu, wall=wall, part=float(1 / scale.max()))


def _objective(rows: Sequence[dict[str, Any]], tool: str, points: Path) -> float:
    """The least summed Huber loss of log residuals among the fits of a tool."""
    with points.open(newline="") as file:
        measured = np.log([float(row["loss"]) for row in csv.DictReader(file)])
    predicted = [row["predicted"] for row in rows if row["tool"] == tool and row["task"] == "fit"]
    size = np.abs(measured - np.log(np.array(predicted)))
    inside = np.minimum(size, DELTA)
    return float(np.min(np.sum(inside * (size - 0.5 * inside), axis=1)))


def _setting(rows: Sequence[dict[str, Any]], about: str) -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = model.group(1)
    ours = next(row for row in rows if row["tool"] == "prx-scale")["versions"]
    load = os.getloadavg()[0]
    return (
        f"{about}; {cpu}, one thread; Python {ours['python']}, numpy {ours['numpy']};"
        f" load of the machine {load:.1f} on {os.cpu_count()} cores."
    )


def _full(
    times: dict[tuple[str, str], Times | None], reached: dict[str, float], checked: Verified, setting: str
) -> str:
    lines = [
        "| tool | task | processor time: median (range) | wall time | against prx-scale |",
        "|---|---|---|---|---|",
    ]
    for tool in TOOLS:
        for task in TASKS:
            each, ours = times[tool.name, task], times["prx-scale", task]
            if each is None or ours is None:
                lines.append(f"| {tool.name} | {HEADINGS[task]} | not offered | | |")
            else:
                wall, ratio = _seconds(float(np.median(each.wall))), each.median / ours.median
                times_ours = "" if each is ours else f"{ratio:.2g} times" if ratio < 10 else f"{ratio:.0f} times"
                lines.append(f"| {tool.name} | {HEADINGS[task]} | {each} | {wall} | {times_ours} |")
    best = reached["prx-scale"]
    lines += ["", "| tool | objective reached | above prx-scale | what it minimises, and how |", "|---|---|---|---|"]
    for tool in TOOLS:
        lines.append(f"| {tool.name} | {reached[tool.name]:.12g} | {_above(reached[tool.name], best)} | {tool.note} |")
    beaten = "none" if not checked.beaten else str(checked.beaten)
    lines += [
        "",
        f"{setting} About: a part of the starts or resamples was timed and scaled up.",
        "",
        f"Of {checked.resamples} resamples, each fitted again from {checked.starts} random starts by L-BFGS-B and then"
        f" damped Newton, {beaten} had an optimum more than 1e-9 (relative) below the one that prx-scale found"
        f" (largest difference {checked.worst:.0e}).",
    ]
    return "\n".join(lines)


def _short(times: dict[tuple[str, str], Times | None], reached: dict[str, float], setting: str) -> str:
    lines = ["| | one fit | 1,000 resamples | objective above the least |", "|---|---|---|---|"]
    least = min(reached.values())
    for tool in TOOLS:
        each = [times[tool.name, task] for task in TASKS]
        cells = ["not offered" if one is None else _seconds(one.median) for one in each]
        lines.append(f"| {tool.name} | {cells[0]} | {cells[1]} | {_above(reached[tool.name], least)} |")
    return "\n".join([*lines, "", f"Median processor time; {setting}"])


def _above(value: float, least: float) -> str:
    """Relative excess; what differs by rounding is 0."""
    above = value / least - 1
    return "0" if abs(above) < 1e-12 else f"{above:.0e}" if above < 1e-4 else f"{above:.1%}"


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 0.0995 else f"{value:.3g} s"
