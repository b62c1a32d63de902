"""The fit of a study: points of its runs, the law, predictions of the runs held out, and whether they came true.

<study>/fit/points.csv        what went into the fit
<study>/fit/fit.json          the law
<study>/fit/prediction.json   losses of the held-out runs, written down once, before they start where that is possible
<study>/fit/verdict.json      predicted against measured
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prx_scale import runs, sources
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import parameters
from prx_scale.runs.clock import now
from prx_scale.runs.files import write_atomically
from prx_scale.runs.info import RunInfo
from prx_scale.study import Study
from prx_scale.turns import Turns
from scaling import FitInputError, FitResult, Points, fit

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The loss that a held-out depth should have after its last step."""

    depth: int
    params: int
    data: int
    flops: float
    loss: float
    interval: tuple[float, float]
    step: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """A forecast against the run it was made for."""

    run: str
    depth: int
    params: int
    data: int
    flops: float
    predicted: float
    interval: tuple[float, float]
    level: float
    measured: float
    held: bool
    error_relative: float
    """measured / predicted - 1."""


def fit_study(study: Study) -> FitResult:
    """Fit the study's law to its runs, the held-out variants left out, and keep points and law in its fit folder.

    Args:
        study: with runs that have validated.

    Raises:
        InputError: the runs do not give enough points.
    """
    loaded = sources.load([study.folder])
    targets = [(float(f.params), float(f.data)) for f in _held_out(study)]
    try:
        result = fit(
            loaded.points,
            law=study.fit.law,
            bootstrap=study.fit.bootstrap,
            level=study.fit.level,
            predict=targets,
            provenance=replace(loaded.provenance, created=now(), command=f"prx-scale report {study.folder}"),
        )
    except FitInputError as error:
        raise InputError(f"{study.folder}: {error}") from error
    write_atomically(study.folder / "fit" / "fit.json", json.dumps(result.to_json()) + "\n")
    write_atomically(study.folder / "fit" / "points.csv", _points_csv(loaded.points, study))
    return result


def _points_csv(points: Points, study: Study) -> str:
    import polars as pl

    columns = {"params": points.params, "data": points.data, "flops": points.flops, "loss": points.loss}
    frame = pl.DataFrame({name: value for name, value in columns.items() if value is not None})
    frame = frame.with_columns(pl.Series("run", points.cluster, dtype=pl.String))
    infos = _infos(study)
    known = pl.DataFrame([{"run": info.run, "depth": info.depth, "seed": info.seed} for info in infos])
    frame = frame.join(known, on="run", how="left", maintain_order="left")
    validated = runs.load(study.folder, "validation")
    steps = validated.select("run", pl.col("samples").cast(pl.Float64).alias("data"), "step").unique()
    return frame.join(steps, on=["run", "data"], how="left", maintain_order="left").write_csv()


def _infos(study: Study) -> list[RunInfo]:
    return runs.load_runs(study.folder)


def _held_out(study: Study) -> list[Forecast]:
    """The held-out sizes, without a loss yet; runs that differ by seed alone count once."""
    nan = float("nan")
    seen: dict[tuple[int, int], Forecast] = {}
    for run in study.runs:
        if run.variant in study.fit.holdout:
            params, data, flops = _size(run)
            forecast = Forecast(
                depth=run.model.depth,
                params=params,
                data=data,
                flops=flops,
                loss=nan,
                interval=(nan, nan),
                step=run.training.steps,
            )
            seen.setdefault((params, data), forecast)
    return list(seen.values())


def _size(run: RunConfig) -> tuple[int, int, float]:
    totals = Turns(run).totals(run.training.steps)
    return parameters(model_shape(run)).backbone, totals.samples, float(totals.flops)


def predict_held_out(study: Study, result: FitResult) -> list[Forecast]:
    """Write down what the held-out runs should reach. What was once written down stays.

    Args:
        study: the study.
        result: its fit.

    Returns:
        The forecasts that stand in prediction.json.
    """
    path = study.folder / "fit" / "prediction.json"
    started = any(info.variant in study.fit.holdout for info in _infos(study))
    if path.exists() and started:
        return _read_forecasts(path)
    forecasts = [
        replace(size, loss=made.loss, interval=made.interval)
        for size, made in zip(_held_out(study), result.predictions, strict=True)
    ]
    document = {
        "schema": SCHEMA,
        "made": now(),
        "before_training": not started,
        "law": result.law,
        "level": result.level,
        "predictions": [asdict(forecast) for forecast in forecasts],
    }
    write_atomically(path, json.dumps(document, indent=1) + "\n")
    return forecasts


def _read_forecasts(path: Path) -> list[Forecast]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["predictions"]
    for row in rows:
        row["interval"] = tuple(row["interval"])
    return [Forecast(**row) for row in rows]


def judge(study: Study, forecasts: Sequence[Forecast], level: float) -> str | None:
    """Hold the forecasts against the held-out runs that are done, and write the verdict down.

    Args:
        study: the study.
        forecasts: as written down.
        level: of their intervals.

    Returns:
        The verdict in plain words, None while no held-out run is done.
    """
    by_size = {(forecast.params, forecast.data): forecast for forecast in forecasts}
    checks: list[Check] = []
    for row in _final_losses(study):
        forecast = by_size.get((row["params"], row["samples"]))
        if forecast is not None:
            checks.append(_check(row, forecast, level))
    if not checks:
        return None
    sentence = verdict_sentence(study, checks)
    document = {"schema": SCHEMA, "checks": [asdict(check) for check in checks], "sentence": sentence}
    write_atomically(study.folder / "fit" / "verdict.json", json.dumps(document, indent=1) + "\n")
    return sentence


def _final_losses(study: Study) -> list[dict[str, Any]]:
    import polars as pl

    frame = runs.load(study.folder, "validation")
    done = frame.filter(
        pl.col("variant").is_in(list(study.fit.holdout)) & (pl.col("state") == "done") & (pl.col("weights") == "ema")
    )
    return done.sort("depth", "seed", "step").group_by("run", maintain_order=True).last().to_dicts()


def _check(row: dict[str, Any], forecast: Forecast, level: float) -> Check:
    low, high = forecast.interval
    return Check(
        run=row["run"],
        depth=row["depth"],
        params=forecast.params,
        data=forecast.data,
        flops=forecast.flops,
        predicted=forecast.loss,
        interval=forecast.interval,
        level=level,
        measured=row["loss"],
        held=low <= row["loss"] <= high,
        error_relative=row["loss"] / forecast.loss - 1,
    )


def verdict_sentence(study: Study, checks: Sequence[Check]) -> str:
    """What became of the predictions, in plain words with all numbers.

    Args:
        study: the study.
        checks: at least one.
    """
    fitted = sorted({run.model.depth for run in study.runs if run.variant not in study.fit.holdout})
    parts: list[str] = []
    for depth in sorted({check.depth for check in checks}):
        own = [check for check in checks if check.depth == depth]
        low, high = own[0].interval
        measured = " and ".join(f"{check.measured:.4f} ({check.error_relative:+.1%})" for check in own)
        outcome = _outcome([check.held for check in own])
        parts.append(
            f"From depths {', '.join(map(str, fitted))} the law predicted a validation loss of {own[0].predicted:.4f} "
            f"for depth {depth} after {own[0].data:,} images, with {own[0].level:.0%} probability between {low:.4f} "
            f"and {high:.4f}. Measured: {measured}. {outcome}"
        )
    return " ".join(parts)


def _outcome(held: Sequence[bool]) -> str:
    if all(held):
        return "The prediction held."
    if not any(held):
        return "The prediction did not hold."
    return f"The prediction held for {sum(held)} of {len(held)} seeds."


def refresh(study: Study) -> str | None:
    """Bring fit, forecasts and verdict up to date with the runs.

    Args:
        study: the study.

    Returns:
        The verdict in plain words, None while no held-out run is done.

    Raises:
        InputError: the runs do not give enough points.
    """
    result = fit_study(study)
    return judge(study, predict_held_out(study, result), result.level)
