"""Fixtures of the scaling tests: published tables where they are at hand, known surfaces always."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scaling import Points
from tests.scaling.known_surface import surface

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "scaling"
EXAMPLE = ROOT / "examples" / "overtraining" / "overtraining_c4_val.csv"

Rows = list[dict[str, str]]


def points_of(rows: Rows) -> Points:
    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    return Points(params=column("params"), data=column("tokens"), loss=column("loss"), flops=column("flops"))


def read_rows(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def published() -> Callable[..., Points]:
    """``published("isoflops_llama3", outlier="False")``: rows of a published table, or a skip."""

    def load(table: str, **equal: str) -> Points:
        path = PUBLISHED / f"{table}.csv"
        if not path.exists():
            pytest.skip("the published tables are not beside this checkout")
        rows = read_rows(path)
        return points_of([row for row in rows if all(row[key] == value for key, value in equal.items())])

    return load


@pytest.fixture(scope="session")
def example() -> Callable[[str], Points]:
    """Rows of the shipped example, by training set."""

    def load(train_set: str) -> Points:
        return points_of([row for row in read_rows(EXAMPLE) if row["train_set"] == train_set])

    return load


@pytest.fixture
def synthetic() -> Callable[..., Points]:
    """``synthetic(noise=0.01, seed=0)``: an 8 x 6 grid of sizes and data on the known surface."""

    def make(noise: float = 0.0, seed: int = 0) -> Points:
        params, data = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e8, 1e12, 6)))
        rng = np.random.default_rng(seed)
        loss = surface(params, data) * np.exp(noise * rng.standard_normal(params.size))
        return Points(
            params=params,
            data=data,
            loss=loss,
            flops=6 * params * data,
            steps=data / 2**20,
            unique=np.minimum(data, 1e10),
        )

    return make
