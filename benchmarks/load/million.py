"""Seconds and memory of `prx-scale fit` on a million checkpoint rows, and of a cold start on 240 points.

    OMP_NUM_THREADS=1 python benchmarks/load/million.py [--rows 1000] [--runs 1000]

Makes the tables in a temporary folder, runs every command as a process of its own, and prints its processor time
(user + system), the time on the clock and the largest memory that it held. The losses are drawn around a Chinchilla
law, with a luck of every run and one of every row.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

COLD_STARTS = 7


def make_table(runs: int, rows: int) -> pl.DataFrame:
    """Checkpoints of ``runs`` runs, ``rows`` of each, with columns that a fit does not need."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.exp(rng.uniform(np.log(1e7), np.log(1e9), runs)), rows)
    data = (np.exp(rng.uniform(np.log(1e9), np.log(1e11), runs))[:, None] * np.arange(1, rows + 1) / rows).ravel()
    luck = np.repeat(0.003 * rng.standard_normal(runs), rows) + 0.003 * rng.standard_normal(runs * rows)
    loss = (1.8 + 480 * params**-0.35 + 2100 * data**-0.37) * np.exp(luck)
    return pl.DataFrame(
        {
            "run": np.repeat([f"run-{i:04d}" for i in range(runs)], rows),
            "step": np.tile(np.arange(1, rows + 1) * 100, runs),
            "params": params.round(),
            "tokens": data.round(),
            "val_loss": loss,
            "train_loss": loss * 1.01,
            "grad_norm": np.abs(rng.standard_normal(runs * rows)),
        }
    )


def measure(*words: str | Path) -> tuple[float, float, float]:
    """Processor seconds, seconds on the clock and MiB of one call of prx-scale."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    command = [sys.executable, "-m", "prx_scale", *map(str, words)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return seconds, time.perf_counter() - start, memory


def report(name: str, *words: str | Path, times: int = 1) -> None:
    """Print the medians of some calls."""
    found = [measure(*words) for _ in range(times)]
    seconds, clock, memory = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"{name:<46} {seconds:6.2f} s processor {clock:7.2f} s clock {memory:7.0f} MiB", flush=True)


def main() -> None:
    """Make the tables and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        table = make_table(asked.runs, asked.rows)
        small = Path(folder) / "small.csv"
        table.gather_every(max(1, len(table) // 240)).head(240).write_csv(small)
        paths = {suffix: Path(folder) / f"big.{suffix}" for suffix in ("csv", "parquet", "jsonl")}
        table.write_csv(paths["csv"])
        table.write_parquet(paths["parquet"])
        table.write_ndjson(paths["jsonl"])
        print(f"{len(table)} rows of {asked.runs} runs; 1000 resamples unless it says otherwise")
        for suffix, path in paths.items():
            report(f"fit big.{suffix}", "fit", path)
        report("fit big.parquet --bootstrap 0", "fit", paths["parquet"], "--bootstrap", "0")
        report("fit big.parquet --thin 10", "fit", paths["parquet"], "--thin", "10")
        report("fit big.parquet --last", "fit", paths["parquet"], "--last")
        report(f"fit of 240 points, median of {COLD_STARTS}", "fit", small, "--cluster", "row", times=COLD_STARTS)


if __name__ == "__main__":
    main()
