"""Encoded samples a second from a store to ready batches, beside webdataset tars and Hugging Face datasets.

    python benchmarks/data/latents.py --write

The same random latents (16 channels of 256 px, mean and standard deviation in 16 bits), and the same with SD3's text
states, are written in every form and read in one process on one thread in turns, so that whatever else the machine does
hits all alike; what counts is process time, from the page cache. Then a store of more shards than a process keeps open
is read for `--seconds`, and the memory of the process is looked at. Needs the packages webdataset and datasets, which
prx-scale does not. `--write` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from encodings_made import SIZE, Batch, Made, readers, write_store
from marks import write_marked

from parallel.host import processor_name
from prx_scale.data.store import Store

ROOT = Path(__file__).parents[2]
MANY = 8
"""Samples of a shard where a store has many."""
FORMS = ("store", "pth", "npy", "arrays", "bytes")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Samples a second of process time in each turn, by reader."""

    data: str
    rates: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """MiB of a process that read for long."""

    shards: int
    samples: int
    seconds: float
    resident: np.ndarray
    """(n,) at equal times."""


def main() -> None:
    """Measure, print the table, write it where asked."""
    options = _options()
    if options.hold:
        hold(options.hold, options.batch, options.seconds)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "hf")
        alone, both = Made(options.samples, text=False), Made(options.text_samples, text=True)
        parts = [
            measure(folder / "latents", alone, "latents", options, batch=options.batch, shard=4096),
            measure(folder / "text", both, "with SD3's text states", options, batch=options.text_batch, shard=512),
        ]
        write_store(folder / "many", alone, shard=MANY)
        memory = measure_memory(folder / "many", options)
    text = render(parts, memory, options)
    print(text)
    if options.write:
        write_marked(ROOT / "docs" / "benchmarks.md", "latents", text)


def measure(folder: Path, made: Made, said: str, options: argparse.Namespace, *, batch: int, shard: int) -> Measured:
    """Time all readers of the same samples, in turns whose order changes.

    Args:
        folder: to write into.
        made: the samples.
        said: what they are.
        options: turns, and seconds of each.
        batch: samples of a batch.
        shard: samples of a shard of the store.
    """
    folder.mkdir()
    streams = {name: make() for name, make in readers(folder, made, batch, shard, options.forms).items()}
    check({name: next(stream) for name, stream in streams.items()}, made, batch)
    rates: dict[str, list[float]] = {name: [] for name in streams}
    names = list(streams)
    for turn in range(options.turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(_rate(streams[name], batch, options.turn_seconds))
    data = f"{said}, {made.bytes / 1000:.1f} kB a sample, batches of {batch} out of {made.count:,}"
    return Measured(data=data, rates={name: np.array(each) for name, each in rates.items()})


def check(batches: Mapping[str, Batch], made: Made, batch: int) -> None:
    """End where the readers do not do the same job.

    Args:
        batches: a first one of each.
        made: the samples.
        batch: samples of a batch.
    """
    right = [(batch, *shape) for shape in made.shapes.values()]
    for name, found in batches.items():
        if [tuple(each.shape) for each in found] != right or any(each.itemsize != 2 for each in found):
            raise SystemExit(f"{name}: {[(each.dtype, tuple(each.shape)) for each in found]} is another job")


def hold(store: str, batch: int, seconds: float) -> None:
    """Read a store for long, and print samples and memory now and then; run in a process of its own."""
    view, draw = Store.open(store).at(SIZE), np.random.default_rng(1)
    count, began, said = 0, time.perf_counter(), 0.0
    while time.perf_counter() - began < seconds:
        view.batch(draw.integers(0, len(view.store), batch))
        count += batch
        if time.perf_counter() - said > seconds / 50:
            said = time.perf_counter()
            print(count, said - began, _resident(), flush=True)


def measure_memory(store: Path, options: argparse.Namespace) -> Memory:
    """Read a store in a process of its own.

    Args:
        store: its folder.
        options: for how long.
    """
    words = ["--hold", str(store), "--seconds", str(options.seconds), "--batch", str(options.batch)]
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    rows = np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
    shards = Store.open(store).recipe.shards
    return Memory(shards=shards, samples=int(rows[-1, 0]), seconds=float(rows[-1, 1]), resident=rows[:, 2])


def render(parts: Sequence[Measured], memory: Memory, options: argparse.Namespace) -> str:
    """The tables with the sentences around them."""
    lines: list[str] = []
    for each in parts:
        lines += [f"{each.data}:", "", "| | samples a second and core | prx-scale / it |", "|---|---|---|"]
        lines += [_row(name, each) for name in each.rates]
        lines += [""]
    first, last = memory.resident[len(memory.resident) // 10], memory.resident[-1]
    lines += [
        f"Memory of a process that read {memory.samples / 1e6:.1f} million latents at random out of {memory.shards:,} "
        f"shards in {memory.seconds:.0f} s: {first:.1f} MiB after a tenth of the time, {last:.1f} at the end, "
        f"{memory.resident.max():.1f} at most.",
        "",
        _setting(options),
    ]
    return "\n".join(lines)


def _row(name: str, each: Measured) -> str:
    rate = np.median(each.rates[name])
    if name == "prx-scale":
        return f"| {name} | {rate:,.0f} | |"
    low, middle, high = np.quantile(each.rates["prx-scale"] / each.rates[name], [0.25, 0.5, 0.75])
    return f"| {name} | {rate:,.0f} | {middle:.1f} ({low:.1f} to {high:.1f}) |"


def _setting(options: argparse.Namespace) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "webdataset", "datasets"))
    return (
        f"{date.today():%d %B %Y}; {processor_name()}, one thread; Python {platform.python_version()}, {packages}; "
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Process time, medians of "
        f"{options.turns} alternating turns; ratios within a turn, with the middle half of them."
    )


def _rate(stream: Iterator[Batch], batch: int, seconds: float) -> float:
    count, began, clock = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - clock < seconds:
        next(stream)
        count += batch
    return count / (time.process_time() - began)


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192, help="of latents alone")
    parser.add_argument("--text-samples", type=int, default=1024, help="with text states")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--text-batch", type=int, default=64, help="with text states")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--turn-seconds", type=float, default=1.0, help="of each reader in a turn")
    parser.add_argument("--seconds", type=float, default=300.0, help="for which memory is looked at")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--folder", help="where data are written; by default the temporary folder")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
