"""One training step of our MM-DiT and of diffusers' SD3Transformer2DModel, one shape, on a CPU.

    python benchmarks/train/compare.py --write

Both run in one process on one thread in turns, so that whatever else the machine does hits both alike; the medians of
process time are compared. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tables
import torch
from models import Case
from subjects import PRECISIONS, Precision, pair
from timing import Times, alternate

from parallel.titan import process_group_environment
from prx_scale.models import onednn

ROOT = Path(__file__).parents[2]
CASES = {
    "shallow": Case(depth=2, width=256, batch=16, text=32),
    "narrow": Case(depth=4, width=256, batch=16, text=32),
    "middle": Case(depth=4, width=512, batch=4),
    "wide": Case(depth=4, width=768, batch=2),
}
TOY = Case(depth=2, width=128, batch=2, side=4, text=6, channels=4, context=32, pooled=16)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Times of one case in one precision."""

    case: Case
    precision: Precision
    compiled: bool
    onednn: bool
    times: dict[str, Times]


def main() -> None:
    """Measure, print the table, write it where asked."""
    options = _options()
    torch.set_num_threads(options.threads)
    measured = []
    with process_group_environment():
        for each in measure(options):
            measured.append(each)
            print(tables.line(each), flush=True)
    text = tables.render(measured, threads=options.threads)
    print(text)
    if options.write:
        tables.write(ROOT / "docs" / "performance.md", "train", text)


def measure(options: argparse.Namespace) -> Iterator[Measured]:
    """One measurement after another, the most telling first, so that a limit on time cuts the least."""
    until = time.monotonic() + options.limit
    cases = {"toy": TOY} if options.toy else CASES
    eager, compiled = (["toy"] if options.toy else options.eager), options.compiled
    for name, is_compiled in [(name, False) for name in eager] + [(name, True) for name in compiled]:
        for precision in options.precisions:
            for products in (True, False) if options.without_onednn and precision == "float32" else (True,):
                if time.monotonic() < until:
                    yield _one(cases[name], precision, is_compiled, products, options)


def _one(case: Case, precision: Precision, compiled: bool, products: bool, options: argparse.Namespace) -> Measured:
    torch._dynamo.reset()
    with onednn.switched(products):
        tasks = pair(case, precision, torch.device("cpu"), backend="inductor" if compiled else None)
        times = alternate(tasks, turns=options.turns, seconds=options.seconds, device=torch.device("cpu"))
    return Measured(case=case, precision=precision, compiled=compiled, onednn=products, times=times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eager", nargs="*", choices=list(CASES), default=["narrow", "middle", "wide"])
    parser.add_argument("--compiled", nargs="*", choices=list(CASES), default=[], help="minutes of compilation each")
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--without-onednn", action="store_true", help="float32 also with torch's products in both")
    parser.add_argument("--turns", type=int, default=31, help="at most so many of each")
    parser.add_argument("--seconds", type=float, default=60, help="no further turn after so long")
    parser.add_argument("--limit", type=float, default=3600, help="no further measurement after so many seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--toy", action="store_true", help="a tiny shape, to see that everything runs")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
