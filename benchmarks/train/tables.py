"""Measurements of training steps as Markdown."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subjects import PRECISIONS
from timing import Times

from parallel.host import processor_name


def render(measured: Sequence[Any], *, threads: int) -> str:
    """The table with the sentences around it.

    Args:
        measured: see :class:`compare.Measured`.
        threads: of both.
    """
    lines = [
        "| shape | precision | | ours | diffusers | diffusers / ours | with one optimiser | gradients alone |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(each) for each in measured),
        "",
        _setting(threads),
        "",
        "Process time: median of alternating turns; ratios: median over the turns of the ratio within a turn, with the"
        " middle half of them. A step is forward, backward and AdamW: ours fused, as the trainer has it, diffusers'"
        " by torch's default, as its training scripts have it; then both fused; then forward and backward alone.",
        "",
        *(f"* {name}: {meaning}." for name, meaning in PRECISIONS.items() if name != meaning),
    ]
    return "\n".join(lines)


def line(each: Any) -> str:
    """One measurement for the terminal."""
    return _row(each).strip("| ")


def _row(each: Any) -> str:
    times = each.times
    mode = ("compiled" if each.compiled else "eager") + ("" if each.onednn else ", torch's products")
    cells = [
        str(each.case),
        each.precision,
        mode,
        seconds(times["ours"]),
        seconds(times["theirs"]),
        ratio(times["theirs"], times["ours"]),
        ratio(times["theirs, fused"], times["ours"]),
        ratio(times["theirs, gradients"], times["ours, gradients"]),
    ]
    return f"| {' | '.join(cells)} |"


def seconds(times: Times, kind: str = "cpu") -> str:
    """Median."""
    value = float(np.median(getattr(times, kind)))
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def ratio(above: Times, below: Times, kind: str = "cpu") -> str:
    """How many times longer, by turns: median and quartiles."""
    low, middle, high = np.quantile(getattr(above, kind) / getattr(below, kind), [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _setting(threads: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "torchtitan"))
    return (
        f"{date.today():%d %B %Y}; {processor_name()}, {torch.backends.cpu.get_cpu_capability()}, {threads} thread"
        f"{'s' if threads > 1 else ''}; Python {platform.python_version()}, {packages}; load of the machine"
        f" {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )


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
