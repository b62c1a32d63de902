"""The benchmark of fits: one objective for all, verified resamples, and tables that say what was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from scaling import Points, fit

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "fit"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts, imported as they import each other."""
    sys.path[:0] = [str(FOLDER), str(FOLDER / "runners")]
    import common
    import compare
    import grid_search
    import tables
    import tools
    import verify

    found = {each.__name__: each for each in (common, compare, grid_search, tables, tools, verify)}
    yield found
    del sys.path[:2]
    for name in found:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def points(modules: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped rows as the scripts prepare them."""
    path, about = modules["compare"].prepare(modules["compare"].EXAMPLE, tmp_path_factory.mktemp("benchmark"))
    assert about.startswith("35 rows")
    return path


def columns(path: Path) -> np.ndarray:
    return np.genfromtxt(path, delimiter=",", skip_header=1).T


def test_the_grid_search_minimises_the_same_objective(modules: dict[str, ModuleType], points: Path) -> None:
    params, data, loss = columns(points)
    problem = modules["grid_search"].Problem(modules["common"].Table(params=params, data=data, loss=loss))
    ours = fit(Points(params=params, data=data, loss=loss), bootstrap=0)
    e, a, b, alpha, beta = ours.values
    theta, w = np.array([np.log(a), np.log(b), np.log(e), alpha, beta]), np.ones(35)
    assert problem.value(theta, w) == pytest.approx(ours.objective, rel=1e-9)
    step = 1e-6 * np.eye(5)
    slope = [(problem.value(theta + each, w) - problem.value(theta - each, w)) / 2e-6 for each in step]
    assert problem.gradient(theta, w) == pytest.approx(slope, abs=1e-5)
    assert problem.value(problem.grid_fit(12, 0), w) >= ours.objective * (1 - 1e-9)
    assert np.prod([len(axis) for axis in modules["grid_search"].GRID]) == 4500


def test_a_measurement_is_of_the_whole_task(modules: dict[str, ModuleType], points: Path) -> None:
    tool = modules["tools"].TOOLS[0]
    row = modules["tools"].measure(tool, Path(sys.executable), points, "bootstrap", 10, 0)
    assert row["cpu"] > 0 and (row["done"], row["of"]) == (10, 10)
    assert len(row["predicted"]) == 35


def test_verified_resamples_are_not_beaten(modules: dict[str, ModuleType], points: Path) -> None:
    checked = modules["verify"].resamples(points, count=2)
    assert (checked.resamples, checked.beaten) == (2, 0)
    assert abs(checked.worst) < 1e-9


def rows(modules: dict[str, ModuleType], predicted: list[float]) -> list[dict[str, Any]]:
    versions = {"python": "3.11", "numpy": "2"}
    return [
        {"tool": tool.name, "task": task, "cpu": 0.5, "wall": 1.0, "done": 1, "of": 2 if "grid" in tool.name else 1}
        | {"predicted": predicted, "versions": versions}
        for tool in modules["tools"].TOOLS
        for task in tool.tasks
    ]


def test_tables_scale_up_and_say_so(modules: dict[str, ModuleType], points: Path, tmp_path: Path) -> None:
    tables, verified = modules["tables"], modules["verify"].Verified
    predicted = (columns(points)[2] * np.exp(2e-3)).tolist()
    checked = verified(resamples=50, starts=20, beaten=0, worst=1e-13)
    text = tables.render(rows(modules, predicted), checked, points, "35 rows")
    assert "| grid search as published | one fit | about 1 s | 2 s | 2 times |" in text.full
    assert "| chinchilla 0.2.0 | 1,000 resamples | not offered | | |" in text.full
    assert f"| prx-scale | {35 * 1e-3 * (2e-3 - 0.5e-3):.12g} |" in text.full
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmark: fit -->\nold\n<!-- end of benchmark: fit -->\nafter\n", encoding="utf-8")
    tables.write(page, "fit", text.short)
    written = page.read_text(encoding="utf-8")
    assert "old" not in written and written.startswith("before\n") and written.endswith("\nafter\n")
    with pytest.raises(SystemExit, match="no '<!-- benchmark: other -->'"):
        tables.write(page, "other", text.short)


def test_pages_have_a_place_for_the_tables() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "benchmarks.md"):
        text = page.read_text(encoding="utf-8")
        assert "<!-- benchmark: fit -->" in text and "<!-- end of benchmark: fit -->" in text
