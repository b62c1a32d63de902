"""Time and exactness of a fit and of 1,000 resamples, against what one would use instead.

    python benchmarks/fit/compare.py --write

Every tool runs in processes of its own on one thread, in turns, so that whatever else the machine does hits all alike;
each package gets an environment of its own under ``--cache``. What is measured is kept there, and the same call goes
on where it was stopped; changed code is measured again. ``--write`` puts the tables into docs/benchmarks.md and
README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tables
import verify
from tools import ROOT, TASKS, TOOLS, Tool, interpreter, measure, state

PUBLISHED = ROOT.parent / "shared" / "data" / "scaling" / "chinchilla_epoch.csv"
EXAMPLE = ROOT / "examples" / "overtraining" / "overtraining_c4_val.csv"
COLUMNS = ("params", "tokens", "loss")


def main() -> None:
    """Measure what is not measured yet, print the tables, write them where asked."""
    options = _options()
    options.cache.mkdir(parents=True, exist_ok=True)
    points, source = prepare(options.data, options.cache)
    results = options.cache / "results.jsonl"
    if options.fresh:
        results.unlink(missing_ok=True)
    known = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    used: list[dict[str, Any]] = []
    for repeat in range(1 if options.quick else options.repeats):
        for tool in TOOLS:
            for task in (task for task in TASKS if task in tool.tasks):
                used.append(_one(tool, task, repeat, points, options, known, results))
    checked = verify.resamples(points, count=5 if options.quick else 50)
    text = tables.render(used, checked, points, f"{source}, {date.today():%d %B %Y}")
    print(f"{text.full}\n\n{text.short}")
    if options.write:
        tables.write(ROOT / "docs" / "benchmarks.md", "fit", text.full)
        tables.write(ROOT / "README.md", "fit", text.short)


def prepare(path: Path | None, cache: Path) -> tuple[Path, str]:
    """The points as a file with the columns params, tokens, loss and no others, and what they are in words."""
    path = path or (PUBLISHED if PUBLISHED.exists() else EXAMPLE)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row.get("train_set", "rpj") == "rpj" and row.get("in_fit", "True") == "True"]
    points = cache / f"{path.stem}.csv"
    with points.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    return points, f"{len(kept)} rows of {path.name}"


def _one(
    tool: Tool, task: str, repeat: int, points: Path, options: argparse.Namespace, known: list[Any], results: Path
) -> dict[str, Any]:
    count = 0 if options.full else tool.tasks[task]
    count = count or tool.whole[task]
    if options.quick and tool.tasks[task]:
        count = max(count // 10, 1)
    key = [tool.name, task, count, repeat, state(tool, points)]
    for row in known:
        if row["key"] == key:
            return row
    row = {
        "key": key,
        "tool": tool.name,
        "task": task,
        **measure(tool, interpreter(tool, options.cache, options.python), points, task, count, repeat),
    }
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{tool.name}, {task}, repeat {repeat + 1}: {row['cpu']:.3f} s for {row['done']} of {row['of']}", flush=True)
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="table with params, tokens, loss; default: the 240 rows, else ours")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "prx-scale-benchmarks")
    parser.add_argument("--python", help="interpreter for the packages' environments; default: the newest found")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat, a tenth of what is sampled anyway")
    parser.add_argument("--full", action="store_true", help="all 4,500 starts and 1,000 resamples of the grid search")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md and README.md")
    return parser.parse_args()


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
