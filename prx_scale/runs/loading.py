"""The runs of studies, and one tidy frame of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.errors import InputError
from prx_scale.runs.files import read_json, read_rows
from prx_scale.runs.info import RunInfo, State
from prx_scale.runs.rows import Table

if TYPE_CHECKING:
    import polars as pl


def run_folders(path: Path) -> list[Path]:
    """The run folders under a study folder, a `runs` folder or a run folder.

    Args:
        path: any of the three.

    Raises:
        InputError: the path does not exist, or holds no run.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    for candidate in (path / "runs", path):
        folders = sorted(file.parent for file in candidate.glob("*/run.json"))
        if folders:
            return folders
    if (path / "run.json").exists():
        return [path]
    raise InputError(f"{path}: no runs here; a study folder has runs/<run>/run.json")


def load_runs(paths: Path | str | Sequence[Path | str]) -> list[RunInfo]:
    """The run.json of every run.

    Args:
        paths: study folders or run folders.

    Returns:
        The runs, by depth, variant and seed.

    Raises:
        InputError: a path holds no run, or a run.json is damaged.
    """
    each = [paths] if isinstance(paths, (str, Path)) else list(paths)
    folders = [folder for path in each for folder in run_folders(Path(path))]
    runs = [RunInfo.from_json(read_json(folder / "run.json"), folder) for folder in folders]
    return sorted(runs, key=lambda run: (run.study, run.depth, run.variant, run.seed, run.run))


def load(paths: Path | str | Sequence[Path | str], table: Table = "validation") -> pl.DataFrame:
    """One tidy frame of the rows of many runs.

    Args:
        paths: study folders or run folders.
        table: which rows: validation, train or evaluation.

    Returns:
        A row per record row. First the run's columns (study, run, variant, depth, seed, state, params, params_total,
        flops_per_sample, tokens_per_sample), then the row's own. Rows of a failed run past its last good step are
        left out.

    Raises:
        InputError: a path holds no run, or a file is damaged other than by a torn last line.
    """
    import polars as pl

    records: list[dict[str, Any]] = []
    for run in load_runs(paths):
        shared = _run_columns(run)
        limit = run.last_good_step if run.state is State.FAILED else None
        for row in read_rows(run.folder / f"{table}.jsonl"):
            if limit is None or row["step"] <= limit:
                records.append({**shared, **row})
    return pl.DataFrame(records, schema=frame_schema(table), orient="row")


def _run_columns(run: RunInfo) -> dict[str, Any]:
    return {
        "study": run.study,
        "run": run.run,
        "variant": run.variant,
        "depth": run.depth,
        "seed": run.seed,
        "state": run.state.value,
        "params": run.parameters.backbone,
        "params_total": run.parameters.total,
        "flops_per_sample": run.flops_per_sample,
        "tokens_per_sample": run.tokens_per_sample,
    }


def frame_schema(table: Table) -> pl.Schema:
    """Columns and types of the frame that `load` gives.

    Args:
        table: validation, train or evaluation.
    """
    import polars as pl

    text, whole, real = pl.String(), pl.Int64(), pl.Float64()
    run_columns = {
        **dict.fromkeys(("study", "run", "variant"), text),
        **dict.fromkeys(("depth", "seed"), whole),
        "state": text,
        **dict.fromkeys(("params", "params_total", "flops_per_sample", "tokens_per_sample"), whole),
    }
    counted = {"step": whole, "samples": whole, "tokens": whole, "flops": real}
    own: dict[Table, dict[str, pl.DataType]] = {
        "train": {
            **counted,
            **dict.fromkeys(("loss", "lr", "grad_norm", "samples_per_second", "mfu", "memory_gib"), real),
            "time": text,
            "waiting": real,
        },
        "validation": {
            **counted,
            "weights": text,
            "split": text,
            "loss": real,
            "levels": pl.List(real),
            "loss_per_level": pl.List(real),
            "n": whole,
        },
        "evaluation": {
            "step": whole,
            "weights": text,
            "metric": text,
            "value": real,
            "stderr": real,
            "n": whole,
            "sampler": text,
            "steps": whole,
            "guidance": real,
            "source": text,
        },
    }
    return pl.Schema({**run_columns, **own[table]})
