"""Who may import whom, read from the source: the rooms stay apart, and the base install stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("prx_scale", "parallel", "scaling", "slurm", "reports")
ALLOWED = {
    "scaling": ("scaling",),
    "reports": ("reports", "scaling", "prx_scale.runs", "prx_scale.errors"),
    "slurm": (
        "slurm",
        "prx_scale.study",
        "prx_scale.allocation",
        "prx_scale.attempts",
        "prx_scale.layout",
        "prx_scale.config",
        "prx_scale.runs",
        "prx_scale.locks",
        "prx_scale.errors",
        "prx_scale.evaluation.due",
    ),
    "parallel": ("parallel",),
}
LIGHT = (
    "prx_scale.cli",
    "prx_scale.runs",
    "prx_scale.study",
    "prx_scale.stages",
    "prx_scale.data.batchplan",
    "prx_scale.data.captions",
    "prx_scale.data.framing",
    "prx_scale.starts",
    "prx_scale.startweights",
    "prx_scale.studyfit",
    "prx_scale.sources",
    "prx_scale.data.sources",
    "prx_scale.data.decode",
    "prx_scale.data.lanes",
    "prx_scale.data.skips",
    "prx_scale.lossmetric",
    "prx_scale.metricrows",
    "prx_scale.curverows",
    "prx_scale.commands.curve_output",
    "prx_scale.commands.rank_output",
    "prx_scale.commands.downstream_output",
    "prx_scale.depthplan",
    "prx_scale.evaluation.due",
    "prx_scale.data.encoding.estimate",
    "prx_scale.data.encoding.plan",
    "prx_scale.data.encoding.fromrun",
    "prx_scale.data.heldout",
    "prx_scale.data.onthefly.schedule",
    "prx_scale.data.onthefly.surveying",
    "prx_scale.epochs",
    "prx_scale.imagedata",
    "prx_scale.data.store",
    "prx_scale.planning",
    "prx_scale.commands.plan_output",
    "prx_scale.nextruns",
    "prx_scale.commands.allocate_output",
    "prx_scale.commands.backtest_output",
    "prx_scale.commands.correlate_output",
    "prx_scale.commands.fit_output",
    "prx_scale.commands.frontier_output",
    "prx_scale.commands.suggest_output",
    "scaling",
    "scaling.backtest",
    "scaling.columns",
    "scaling.plots.notebook",
    "scaling.summary",
    "scaling.correlation",
    "scaling.curves",
    "scaling.downstream",
    "scaling.ranking",
    "prx_scale.models.mup",
    "prx_scale.models.encoders.combinations",
    "prx_scale.models.encoders.identity",
    "prx_scale.models.encoders.image.normalisation",
    "prx_scale.models.encoders.text.cleaning",
    "scaling.coordinates",
    "scaling.optimum",
    "reports.backtest_page",
    "reports.coordinates_page",
    "prx_scale.data.filters",
    "prx_scale.data.filters.choosing",
    "prx_scale.data.filters.scoring",
    "prx_scale.data.filters.summary",
    "prx_scale.commands.filter_output",
    "reports.filter_page",
    "scaling.design",
    "scaling.envelope",
    "scaling.isoflop",
    "scaling.lifetime",
    "reports.fit_page",
    "reports.study_page",
    "slurm.cancelling",
    "slurm.failures",
    "slurm.follow",
    "slurm.ledger",
    "slurm.status",
    "slurm.plan",
    "slurm.local",
)
"""What the base install must be able to import: all that `fit`, `backtest`, `correlate`, `report` and `status` use."""


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, at its top or inside a function.

    Args:
        file: Python source that has no relative imports.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def sources(package: str) -> list[Path]:
    """The Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def belongs(name: str, module: str) -> bool:
    """Whether an imported name is a module, or something in it."""
    return name == module or name.startswith(f"{module}.")


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sources(room)
        for line, name in imports(file)
        if any(belongs(name, package) for package in OURS) and not any(belongs(name, m) for m in ALLOWED[room])
    ]
    assert not wrong, "\n".join(wrong)


def test_torchtitan_is_imported_in_one_place() -> None:
    bridge = ROOT / "parallel" / "titan.py"
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for package in OURS
        for file in sources(package)
        for line, name in imports(file)
        if belongs(name, "torchtitan") and file != bridge
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["scaling", "reports", "slurm"])
def test_rooms_without_torch_never_name_it(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sources(room)
        for line, name in imports(file)
        if belongs(name, "torch")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_base_install_imports_without_torch() -> None:
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
    found = sorted({{"torch", "torchtitan"}} & set(sys.modules))
    assert not found, f"{{name}} imports {{found}}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = {"torch", "torchtitan", "altair", "scipy", "polars", "vl_convert", "submitit"}
    code = f"import sys, prx_scale.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
