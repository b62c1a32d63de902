"""The tools that are compared, the environment of each, and one measurement in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNNERS = Path(__file__).parent / "runners"
TASKS = ("fit", "bootstrap")
_NEWEST_MINOR = 13


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One way to fit the law.

    Attributes:
        name: as the table writes it.
        runner: file under ``runners/``.
        package: what its environment installs from PyPI; None runs beside prx-scale.
        python: least minor version of Python 3 that the package takes.
        tasks: what it offers, and how much of it is done where all of it would take minutes; 0 is all.
        whole: how much the whole task is, for ``tasks`` of 0.
        note: what a reader of the numbers has to know.
    """

    name: str
    runner: str
    package: str | None
    python: int
    tasks: dict[str, int]
    whole: dict[str, int]
    note: str


TOOLS = (
    Tool(
        name="prx-scale",
        runner="prx_scale_fit.py",
        package=None,
        python=11,
        tasks={"fit": 0, "bootstrap": 0},
        whole={"fit": 1, "bootstrap": 1000},
        note="Huber loss (delta 1e-3) of log residuals, 8 starts; rows drawn with replacement, each resample refitted",
    ),
    Tool(
        name="grid search as published",
        runner="grid_search.py",
        package=None,
        python=11,
        tasks={"fit": 225, "bootstrap": 100},
        whole={"fit": 4500, "bootstrap": 1000},
        note="the same loss; 4,500 starts of L-BFGS-B with numeric gradient (Besiroglu et al. 2024, written anew with"
        " scipy); one BFGS start a resample, with the gradient written out",
    ),
    Tool(
        name="chinchilla 0.2.0",
        runner="chinchilla_package.py",
        package="chinchilla==0.2.0",
        python=8,
        tasks={"fit": 0},
        whole={"fit": 108},
        note="given the same loss, which it averages; BFGS from 108 starts in extended precision; no bootstrap",
    ),
    Tool(
        name="simple-scaling-laws 0.2.0",
        runner="simple_scaling_laws_package.py",
        package="simple-scaling-laws==0.2.0",
        python=12,
        tasks={"fit": 0, "bootstrap": 0},
        whole={"fit": 1, "bootstrap": 1000},
        note="least squares of the loss, another objective; wild bootstrap of residuals",
    ),
)


def interpreter(tool: Tool, cache: Path, base: str | None) -> Path:
    """Python of a tool's environment, which is made where it is not there yet.

    Args:
        tool: the tool.
        cache: folder of the environments.
        base: interpreter to make it with; None looks for one that the package takes.

    Raises:
        SystemExit: no interpreter is new enough.
    """
    if tool.package is None:
        return Path(sys.executable)
    folder = cache / tool.package.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([base or _newest(tool.python), "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", tool.package], check=True)
        (folder / "complete").touch()
    return python


def _newest(least: int) -> str:
    for minor in range(_NEWEST_MINOR, least - 1, -1):
        on_path = shutil.which(f"python3.{minor}")
        for found in (on_path, *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")):
            if found and subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0:
                return str(found)
    raise SystemExit(f"no Python 3.{least} or newer on the PATH: name one with --python")


def state(tool: Tool, points: Path) -> str:
    """A hash of all that a measurement of this tool depends on: points, runner, and for prx-scale its code."""
    files = [points, RUNNERS / "common.py", RUNNERS / tool.runner]
    if tool.name == "prx-scale":
        files += sorted((ROOT / "scaling").rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def measure(tool: Tool, python: Path, points: Path, task: str, count: int, seed: int) -> dict[str, Any]:
    """One task of one tool in a process of its own, on one thread.

    Returns:
        cpu and wall seconds for the work done, done, of, predicted, versions.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    path = {"PYTHONPATH": str(ROOT)} if tool.package is None else {}
    command = [python, RUNNERS / tool.runner, points, task, str(count), str(seed)]
    done = subprocess.run(command, env={**os.environ, **threads, **path}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
