"""Training curves out of a study's run record or out of a table with a step and a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prx_scale import sources
from prx_scale.errors import InputError, nearest
from prx_scale.metricrows import numbers
from prx_scale.rowfilter import keep_all, parse_condition

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.runs.rows import Weights
    from scaling.curves import Curve

Record = Literal["validation", "train"]
SYNONYMS: dict[str, tuple[str, ...]] = {
    "step": ("step", "steps", "iteration", "_step"),
    "loss": ("loss", "val_loss", "validation_loss", "val/loss"),
    "run": ("run", "run_id", "name"),
    "lr": ("lr", "learning_rate"),
    "params": ("params", "n_params", "N", "parameters"),
}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves at a constant rate after warm-up.

    Attributes:
        curves: one a run, sorted as the source has them.
        planned: step at which a run is to end, where the source says.
        notices: what was cut off or left out, in sentences.
    """

    curves: tuple[Curve, ...]
    planned: Mapping[str, float]
    notices: tuple[str, ...]


def load(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    warmup: float | None = None,
    record: Record = "validation",
    weights: Weights = "ema",
) -> Curves:
    """Read curves and cut them to their constant-rate part.

    Args:
        source: a study folder, or a CSV, Parquet or JSON-lines file.
        columns: our name (step, loss, run, lr, params) to the table's column.
        where: conditions on the rows; all must hold.
        warmup: steps to leave out; None takes that of a study's runs, and of a table where the rate says.
        record: which losses of a study.
        weights: which weights of a study were validated.

    Raises:
        InputError: a source, column, value or condition that cannot be used, or no run with enough losses.
    """
    path = Path(source)
    if path.is_dir():
        curves, planned, start = _study(path, record, weights, where)
    else:
        curves, planned, start = _table(path, columns or {}, where), {}, {}
    return _cut(curves, planned, {c.run: start.get(c.run, 0.0) if warmup is None else warmup for c in curves}, path)


def _study(
    path: Path, record: Record, weights: Weights, where: Sequence[str]
) -> tuple[list[Curve], dict[str, float], dict[str, float]]:
    import polars as pl

    from prx_scale import runs

    frame = runs.load(path, record).filter(pl.col("state") != "failed")
    if record == "validation":
        frame = frame.filter((pl.col("weights") == weights) & (pl.col("split") == "heldout"))
    frame = keep_all(frame, [parse_condition(text) for text in where], str(path))
    if frame.is_empty():
        raise InputError(f"{path}: no {record} losses of {weights} weights yet")
    rates = runs.load(path, "train").select("run", "step", "lr").unique(["run", "step"], keep="last")
    if record == "validation":  # rows of validation do not say the rate: that of the last logged step before holds
        rates = rates.sort("step")
        frame = frame.sort("step").join_asof(rates, on="step", by="run", check_sortedness=False)
    infos = {info.run: info for info in runs.load_runs(path)}
    curves = [
        _curve(str(run), rows, rows["lr"].to_list(), float(rows["params"][0]))
        for (run,), rows in frame.sort("depth", "variant", "seed", "run", "step").group_by(["run"], maintain_order=True)
    ]
    planned = {run: float(info.steps) for run, info in infos.items()}
    return curves, planned, {run: _warmup(info.config) for run, info in infos.items()}


def _warmup(config: Mapping[str, object]) -> float:
    training = config.get("training")
    steps = training.get("warmup", 0) if isinstance(training, dict) else 0  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return float(steps) if isinstance(steps, (int, float)) else 0.0


def _curve(run: str, rows: pl.DataFrame, rate: list[float | None], params: float | None) -> Curve:
    import numpy as np

    from scaling.curves import Curve

    known = [value for value in rate if value is not None]
    return Curve(
        run=run,
        step=rows["step"].to_numpy().astype(np.float64),
        loss=rows["loss"].to_numpy().astype(np.float64),
        rate=np.array(rate, dtype=np.float64) if len(known) == len(rate) and known else None,
        params=params,
    )


def _table(path: Path, columns: Mapping[str, str], where: Sequence[str]) -> list[Curve]:
    import numpy as np

    from scaling import FitInputError
    from scaling.curves import Curve

    for key in columns:
        if key not in SYNONYMS:
            raise InputError(f"--columns {key}={columns[key]}: not a column of a curve; {nearest(key, SYNONYMS)}")
    frame = keep_all(sources.read_table(path), [parse_condition(text) for text in where], str(path))
    names = {key: columns.get(key) or next((s for s in SYNONYMS[key] if s in frame.columns), None) for key in SYNONYMS}
    step_name, loss_name = names["step"], names["loss"]
    if step_name is None or loss_name is None:
        key = "step" if step_name is None else "loss"
        raise InputError(
            f"{path}: no column for {key} (looked for {', '.join(SYNONYMS[key])}). Name it with --columns"
            f" {key}=COLUMN; {nearest(key, frame.columns)}"
        )
    run_name = names["run"]
    if run_name is not None and run_name not in frame.columns:
        raise InputError(f"{path}: no column '{run_name}'; {nearest(run_name, frame.columns)}")
    run = np.array([str(v) for v in frame[run_name]] if run_name is not None else ["run"] * len(frame))
    values = {key: numbers(frame, name, str(path)) for key, name in names.items() if name is not None and key != "run"}
    complete = np.isfinite(values["step"]) & np.isfinite(values["loss"])
    curves: list[Curve] = []
    for name in dict.fromkeys(run.tolist()):
        at = (run == name) & complete
        rate, size = values.get("lr"), values.get("params")
        known = rate is not None and bool(np.isfinite(rate[at]).all())
        try:
            curves.append(
                Curve(
                    run=name,
                    step=values["step"][at],
                    loss=values["loss"][at],
                    rate=rate[at] if rate is not None and known else None,
                    params=float(size[at][0]) if size is not None and at.any() else None,
                )
            )
        except FitInputError as error:
            raise InputError(f"{path}: {error}") from error
    return curves


def _cut(curves: Sequence[Curve], planned: Mapping[str, float], start: Mapping[str, float], path: Path) -> Curves:
    from scaling import FitInputError
    from scaling.curves import Curve, constant_part

    kept, notices = list[Curve](), list[str]()
    for curve in curves:
        try:
            part = constant_part(curve, start[curve.run])
        except FitInputError as error:
            notices.append(f"left out: {error}")
            continue
        late = int((curve.step > part.step[-1]).sum())
        if late:
            notices.append(
                f"run {curve.run}: the learning rate decays after step {part.step[-1]:g}; {late} losses there are left"
                " out, and what is predicted is the loss at the constant rate, above that after a decay."
            )
        kept.append(part)
    if not kept:
        raise InputError(f"{path}: no run can be extrapolated. {'; '.join(notices)}")
    return Curves(curves=tuple(kept), planned=dict(planned), notices=tuple(notices))
