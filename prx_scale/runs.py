"""The run record: the plain files that training, evaluation, fitting and reports share.

    <study>/runs/<run>/run.json           what the run is and how it stands; replaced as a whole
    <study>/runs/<run>/train.jsonl        one row a logged step
    <study>/runs/<run>/validation.jsonl   one row a validated step and kind of weights
    <study>/runs/<run>/evaluation.jsonl   one row a metric of a checkpoint

How often a run was started is beside them (`prx_scale.attempts`), and which job it belongs to (`prx_scale.owner`).

The JSON-lines files are append-only and safe to read while a run is going on. A last line that was cut short by a
kill is skipped with a warning. A resumed run first drops the rows past its restored step, so no step is in twice.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from prx_scale.errors import InputError

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
Table = Literal["train", "validation", "evaluation"]
TABLES: tuple[Table, ...] = ("train", "validation", "evaluation")
Weights = Literal["raw", "ema"]


class State(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Trainable parameters of the diffusion backbone, with its embedders counted apart."""

    backbone: int
    """Blocks and final layer: the N of a scaling law."""
    embedding: int
    """Patch, time, pooled-text, size and context embedders, and trained positions."""
    by_part: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def total(self) -> int:
        """All trainable parameters."""
        return self.backbone + self.embedding


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """run.json: what the run is (configuration, sizes, versions) and how it stands (state, step)."""

    run: str
    study: str
    variant: str
    state: State
    config: dict[str, Any]
    depth: int
    seed: int
    parameters: Parameters
    flops_per_sample: int
    """Training FLOPs of one image: three times the forward pass."""
    tokens_per_sample: int
    """Image tokens of one image."""
    versions: dict[str, str]
    device: str
    world_size: int
    steps: int
    created: str
    updated: str
    commit: str | None = None
    dirty: bool | None = None
    reason: str | None = None
    """Why a run failed or was interrupted, in words."""
    wall_seconds: float = 0.0
    """Time spent training, over all restarts."""
    step: int = 0
    last_good_step: int | None = None
    """Of a failed run: the last step whose loss was finite."""
    folder: Path = field(default_factory=Path, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The content of run.json."""
        record = asdict(self)
        del record["folder"]
        record["parameters"] = {**record["parameters"], "total": self.parameters.total}
        return {"schema": SCHEMA, **record}

    @classmethod
    def from_json(cls, record: dict[str, Any], folder: Path) -> RunInfo:
        """Read what `to_json` wrote.

        Args:
            record: the parsed run.json.
            folder: the run's folder.

        Raises:
            InputError: a field is missing, or the schema is newer than this package.
        """
        path = folder / "run.json"
        if record.get("schema") != SCHEMA:
            raise InputError(f"{path}: 'schema' is {record.get('schema')!r}, this version reads {SCHEMA}")
        fields = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        try:
            parameters = dict(fields["parameters"])
            parameters.pop("total", None)
            fields["parameters"] = Parameters(**parameters)
            fields["state"] = State(fields["state"])
            return cls(**fields, folder=folder)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a complete run record ({error})") from error


@dataclass(frozen=True, kw_only=True)
class TrainRow:
    """One logged training step; `loss` is that of the step's batch."""

    step: int
    samples: int
    tokens: int
    flops: float
    loss: float
    lr: float
    grad_norm: float
    samples_per_second: float
    mfu: float | None
    """Share of the device's peak; None where the peak is unknown, as on a CPU."""
    memory_gib: float
    time: str
    waiting: float | None = None
    """Share of the time since the last row that the trainer waited for data; None where nothing is encoded on the
    fly."""


@dataclass(frozen=True, kw_only=True)
class ValidationRow:
    """Validation loss of one kind of weights at one step, per equidistant noise level."""

    step: int
    samples: int
    tokens: int
    flops: float
    weights: Weights
    split: str
    loss: float
    """Mean over the levels without the last (t = 1)."""
    levels: list[float]
    loss_per_level: list[float]
    n: int
    """Held-out images behind each level."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One metric of one checkpoint."""

    step: int
    weights: Weights
    metric: str
    value: float
    stderr: float
    n: int
    sampler: str
    steps: int
    guidance: float
    source: str


Row = TrainRow | ValidationRow | EvaluationRow
_TABLE_OF: dict[type, Table] = {TrainRow: "train", ValidationRow: "validation", EvaluationRow: "evaluation"}


def now() -> str:
    """The current time in UTC, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_atomically(path: Path, text: str) -> None:
    """Write a file as a whole or not at all: a reader never sees half of it.

    Args:
        path: the file; its folder is made where it does not exist.
        text: the content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def append_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a JSON-lines file in a single write, so that a kill leaves all of them or a torn tail.

    Args:
        path: the file; its folder is made where it does not exist.
        rows: JSON objects.
    """
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def drop_torn_tail(path: Path) -> None:
    """Cut off what a kill left of a row at the end of a JSON-lines file: it would spoil the next.

    Args:
        path: the file; a missing one has no tail.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


class RunRecord:
    """Writer of one run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def info_path(self) -> Path:
        """run.json."""
        return self.folder / "run.json"

    def read(self) -> RunInfo | None:
        """The run's run.json, or None where the run has not been started."""
        if not self.info_path.exists():
            return None
        return RunInfo.from_json(_read_json(self.info_path), self.folder)

    def write(self, info: RunInfo) -> None:
        """Replace run.json."""
        write_atomically(self.info_path, json.dumps(info.to_json(), indent=1) + "\n")

    def update(self, **changes: Any) -> RunInfo:
        """Change some fields of run.json.

        Args:
            **changes: fields of `RunInfo`.

        Returns:
            The new content.

        Raises:
            InputError: the run has no run.json yet.
        """
        info = self.read()
        if info is None:
            raise InputError(f"{self.info_path}: missing; the run has not been started")
        info = replace(info, updated=now(), **changes)
        self.write(info)
        return info

    def append(self, row: Row) -> None:
        """Add one row to the table that it belongs to, in a single write."""
        self.append_all([row])

    def append_all(self, rows: Sequence[Row]) -> None:
        """Add rows of one table in a single write, so that a kill leaves all of them or a torn tail."""
        if not rows:
            return
        append_lines(self.path(_TABLE_OF[type(rows[0])]), [asdict(row) for row in rows])

    def path(self, table: Table) -> Path:
        """The file of a table."""
        return self.folder / f"{table}.jsonl"

    def drop_after(self, step: int) -> None:
        """Drop the rows past a restored step, and a torn tail, from every table.

        Args:
            step: the last step whose rows stay.
        """
        for table in TABLES:
            path = self.path(table)
            if path.exists():
                kept = [row for row in _intact_rows(path, quiet=True) if row["step"] <= step]
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a torn last line is skipped with a warning.

    Args:
        path: the file; a missing one has no rows.

    Raises:
        InputError: a line before the last is not JSON.
    """
    return list(_intact_rows(path, quiet=False)) if path.exists() else []


def _intact_rows(path: Path, quiet: bool) -> Iterable[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                if not quiet:
                    warnings.warn(f"{path}: skipped its last line, which was cut short", stacklevel=3)
                return
            raise InputError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: not a JSON object")
        yield cast("dict[str, Any]", row)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error


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
    runs = [RunInfo.from_json(_read_json(folder / "run.json"), folder) for folder in folders]
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
