"""Images a second from a tar to ready batches, beside the webdataset package and Hugging Face datasets.

    python benchmarks/data/images.py --photographs shard.tar --write

All run in one process on one thread in turns, so that whatever else the machine does hits all alike; what counts is
process time. Needs the packages webdataset and datasets, which prx-scale does not. `--write` puts the table into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from marks import write_marked
from photographs import write_made, write_repeated
from readers import BATCH, OUR_DECODER, READERS, Batch

from parallel.host import processor_name

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of process time that a batch took in each turn, by reader."""

    data: str
    side: int
    seconds: Mapping[str, np.ndarray]


def main() -> None:
    """Measure, print the table, write it where asked."""
    options = _options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PRX_SCALE_CACHE"] = os.environ["HF_HOME"] = folder
        measured = [
            measure(tar, said, side, options) for tar, said in _tars(Path(folder), options) for side in options.sides
        ]
    text = render(measured)
    print(text)
    if options.write:
        write_marked(ROOT / "docs" / "benchmarks.md", "images", text)


def measure(tar: Path, said: str, side: int, options: argparse.Namespace) -> Measured:
    """Time all readers on one tar, in turns whose order changes.

    Args:
        tar: what is read.
        said: what it holds.
        side: rows and columns of the batches' images.
        options: turns and batches in each.
    """
    streams = {name: reader(tar, side) for name, reader in READERS.items()}
    check({name: next(stream) for name, stream in streams.items()}, side)
    taken: dict[str, list[float]] = {name: [] for name in streams}
    names = list(streams)
    for turn in range(options.turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(_seconds(streams[name], options.batches))
    return Measured(data=said, side=side, seconds={name: np.array(each) for name, each in taken.items()})


def check(batches: Mapping[str, Batch], side: int) -> None:
    """End where the readers do not do the same job.

    Args:
        batches: a first one of each.
        side: rows and columns that images should have.
    """
    for name, (floats, captions) in batches.items():
        right = floats.shape == (BATCH, 3, side, side) and floats.dtype == torch.float32
        if not (right and -1 <= floats.min() < -0.5 and 0.5 < floats.max() <= 1 and len(set(captions)) > 1):
            raise SystemExit(f"{name}: {tuple(floats.shape)} of {floats.dtype} is another job")


def render(measured: Sequence[Measured]) -> str:
    """The tables with the sentences around them."""
    own = [name for name in READERS if name not in OUR_DECODER]
    others = [name for name in READERS if name != "prx-scale"]
    head = ["images a second and core", *own, *(f"{name} / prx-scale" for name in others)]
    parts: list[str] = []
    for data in dict.fromkeys(each.data for each in measured):
        rows = [
            [f"{each.side} px", *(_rate(each, name) for name in own), *(_ratio(each, name) for name in others)]
            for each in measured
            if each.data == data
        ]
        parts += [f"{data}:", "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    return "\n".join([*parts, _setting(len(next(iter(measured[0].seconds.values()))))])


def _rate(each: Measured, name: str) -> str:
    return f"{BATCH / np.median(each.seconds[name]):.0f}"


def _ratio(each: Measured, name: str) -> str:
    """How many times as long as prx-scale for a batch, by turns: median and quartiles."""
    low, middle, high = np.quantile(each.seconds[name] / each.seconds["prx-scale"], [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _setting(turns: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("pillow", "torch", "webdataset", "datasets"))
    return (
        f"{date.today():%d %B %Y}; {processor_name()}, one thread; Python {platform.python_version()}, {packages}; "
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Process time, medians of {turns} "
        "alternating turns; ratios within a turn, with the middle half of them; above 1 is slower than prx-scale."
    )


def _seconds(stream: Iterator[Batch], batches: int) -> float:
    began = time.process_time()
    for _ in range(batches):
        next(stream)
    return (time.process_time() - began) / batches


def _tars(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    made = folder / "made.tar"
    yield made, write_made(made, options.images)
    if options.photographs is not None:
        repeated = folder / "photographs.tar"
        yield repeated, write_repeated(repeated, options.photographs, options.times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a WebDataset tar of real photographs, read besides")
    parser.add_argument("--times", type=int, default=16, help="how often its samples are repeated")
    parser.add_argument("--images", type=int, default=512, help="pictures that are made")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--batches", type=int, default=2, help="batches of each reader in a turn")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
