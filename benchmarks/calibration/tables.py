"""The tables of the calibration benchmark: published ones beside the checkout, the shipped example, simulated ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling import Points

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "scaling"
EXAMPLE = ROOT / "examples" / "overtraining" / "overtraining_c4_val.csv"
TRAIN_SETS = ("rpj", "c4_original", "rw_original")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to hold rows out of.

    Attributes:
        name: as shown.
        family: tables of one family share runs, so none of them helps to fit constants for another.
        core: whether constants are fitted on it, when it is not of the family tested.
        points: its rows.
    """

    name: str
    family: str
    core: bool
    points: Points


def read(path: Path, keep: Callable[[dict[str, str]], bool] = lambda _: True) -> Points:
    """Rows of a CSV file with the columns params, tokens, flops and loss."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if keep(row)]

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    return Points(params=column("params"), data=column("tokens"), loss=column("loss"), flops=column("flops"))


def tables() -> Iterator[Table]:
    """The example, and the published tables that lie beside the checkout."""
    for train_set in TRAIN_SETS:
        points = read(EXAMPLE, lambda row, name=train_set: row["train_set"] == name)
        yield Table(name=f"over-training, c4, {train_set}", family="over-training", core=True, points=points)
    for file, flag, kept, title in (
        ("chinchilla_epoch", "in_fit", "True", "Chinchilla"),
        ("isoflops_llama3", "outlier", "False", "Llama 3 isoFLOP"),
        ("isoflops_misfitting", "outlier", "False", "(Mis)Fitting isoFLOP"),
    ):
        path = PUBLISHED / f"{file}.csv"
        if path.exists():
            points = read(path, lambda row, flag=flag, kept=kept: row[flag] == kept)
            yield Table(name=f"{title}, kept rows", family=title, core=True, points=points)
            yield Table(name=f"{title}, all rows", family=title, core=False, points=read(path))
    path = PUBLISHED / "overtraining.csv"
    if path.exists():
        for train_set in TRAIN_SETS:
            points = read(path, lambda row, name=train_set: row["train_set"] == name and row["eval_set"] == "openlm")
            yield Table(name=f"over-training, openlm, {train_set}", family="over-training", core=False, points=points)


def surface(params: np.ndarray, data: np.ndarray) -> np.ndarray:
    """A Chinchilla surface, with the values of Hoffmann et al. 2022 (arXiv 2203.15556) rounded."""
    return 1.69 + 406.4 * params**-0.34 + 410.7 * data**-0.28


def isoflop(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Five budgets over two decades, seven sizes each."""
    budget = np.repeat(1e18 * 10 ** (0.5 * np.arange(5)), 7)
    params = np.sqrt(budget / 120) * np.tile(np.geomspace(0.25, 4, 7), 5)
    return params, budget / (6 * params), None


def depth_sweep(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Five sizes trained on as much data, eight checkpoints each, one run a size."""
    params = np.repeat(np.geomspace(2e7, 6e8, 5), 8)
    data = 1e10 * np.tile(np.geomspace(1 / 8, 1, 8), 5)
    return params, data, np.repeat(np.arange(5), 8)


def scattered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Twelve runs of any compute over two and a half decades and 4 to 150 tokens per parameter."""
    compute, ratio = 10 ** rng.uniform(18, 20.5, 12), np.exp(rng.uniform(np.log(4), np.log(150), 12))
    params = np.sqrt(compute / (6 * ratio))
    return params, compute / (6 * params), None


DESIGNS = {"isoFLOP, 5 x 7": isoflop, "depth sweep, 5 runs": depth_sweep, "12 scattered runs": scattered}


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A well-specified table and fresh runs beyond it."""

    points: Points
    reach: np.ndarray
    params: np.ndarray
    data: np.ndarray
    loss: np.ndarray


def simulate(design: str, noise: float, seed: int) -> Simulated:
    """One table on the surface and three runs at 20 tokens per parameter, 3, 10 and 30 times as large.

    Noise is log-normal; in the depth sweep half of its variance is shared by the checkpoints of a run.
    """
    rng = np.random.default_rng([seed, list(DESIGNS).index(design), int(1e4 * noise)])
    params, data, run = DESIGNS[design](rng)
    scatter = rng.standard_normal(params.size)
    if run is not None:
        scatter = (scatter + rng.standard_normal(run.max() + 1)[run]) / np.sqrt(2)
    flops, reach = 6 * params * data, np.array([3.0, 10.0, 30.0])
    far = np.sqrt(flops.max() * reach / 120)
    return Simulated(
        points=Points(
            params=params,
            data=data,
            loss=surface(params, data) * np.exp(noise * scatter),
            flops=flops,
            cluster=None if run is None else run.astype(str),
        ),
        reach=reach,
        params=far,
        data=20 * far,
        loss=surface(far, 20 * far) * np.exp(noise * rng.standard_normal(3)),
    )
