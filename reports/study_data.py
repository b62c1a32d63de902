"""All that a study folder holds, read once into frozen records; what is missing or damaged becomes a sentence."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl

from prx_scale import runs
from prx_scale.runs.info import RunInfo, State
from scaling.results import FitResult

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """fit/prediction.json: what was predicted before the held-out runs started."""

    made: str
    beforehand: bool
    """It was written down before any of its runs started."""
    law: str
    level: float
    predictions: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One held-out run: its predicted and its measured loss."""

    run: str
    depth: int
    params: float
    data: float
    predicted: float
    interval: tuple[float, float]
    level: float
    measured: float
    held: bool
    """The measured loss lies in the interval."""

    @property
    def error(self) -> float:
        """Measured over predicted loss, minus one."""
        return self.measured / self.predicted - 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """fit/verdict.json: how the forecast fared."""

    checks: tuple[Check, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """A study as its folder has it."""

    folder: Path
    description: str
    """[study] description of study.toml."""
    holdout: tuple[str, ...]
    """Variants that were predicted, not fitted: [fit] holdout of study.toml."""
    runs: tuple[RunInfo, ...]
    train: pl.DataFrame
    validation: pl.DataFrame
    evaluation: pl.DataFrame
    points: pl.DataFrame | None
    """fit/points.csv: what went into the fit."""
    fit: FitResult | None
    forecast: Forecast | None
    outcome: Outcome | None
    problems: tuple[str, ...]
    """What could not be read, in sentences."""
    planned: tuple[str, ...] = ()
    """Ids of all runs of the study, started or not; empty where nobody has said."""

    @property
    def name(self) -> str:
        """What the study is called."""
        return self.runs[0].study or self.folder.name

    @property
    def not_started(self) -> tuple[str, ...]:
        """Ids of planned runs that have no record."""
        started = {run.run for run in self.runs}
        return tuple(run for run in self.planned if run not in started)

    @property
    def depths(self) -> list[int]:
        """Every depth, ascending."""
        return sorted({run.depth for run in self.runs})

    @property
    def variants(self) -> list[str]:
        """Every variant, by name."""
        return sorted({run.variant for run in self.runs})

    @property
    def compared(self) -> list[str]:
        """The variants that are compared with each other: all but the held-out ones."""
        return [name for name in self.variants if name not in self.holdout]

    @property
    def failed(self) -> tuple[RunInfo, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.state is State.FAILED)

    @property
    def smoke(self) -> bool:
        """The study is a shortened one that only shows that the chain works."""
        return any(bool(run.config.get("smoke") or setting(run, "study", "smoke")) for run in self.runs)

    @property
    def weights(self) -> str:
        """The weights that losses are quoted for: the averaged ones where they were validated."""
        known = self.validation["weights"].unique().to_list()
        return "ema" if "ema" in known or not known else "raw"

    def last_validations(self) -> pl.DataFrame:
        """The last validation row of every run, in the weights that losses are quoted for."""
        rows = self.validation.filter(pl.col("weights") == self.weights).sort("step")
        return rows.group_by("run", maintain_order=True).last()

    def final_losses(self) -> dict[str, float]:
        """The last validation loss of every run that has one, by run."""
        last = self.last_validations()
        return dict(zip(last["run"].to_list(), last["loss"].to_list(), strict=True))


def setting(run: RunInfo, *path: str) -> Any:
    """A value of the run's resolved configuration, or None where it has no such key."""
    value: Any = run.config
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(key)
    return value


def load_study(folder: Path) -> StudyData:
    """Read a study folder.

    Args:
        folder: the folder that holds ``runs/`` and, later, ``fit/``.

    Raises:
        InputError: there is no run in it, or a run record is damaged.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        infos = runs.load_runs(folder)
        train, validation, evaluation = (runs.load(folder, table) for table in ("train", "validation", "evaluation"))
    problems = [f"{str(entry.message).rstrip('.')}." for entry in caught if entry.category is UserWarning]
    fit = folder / "fit"
    declared = _read(folder / "study.toml", _declared, problems) or ("", ())
    return StudyData(
        folder=folder,
        description=declared[0],
        holdout=declared[1],
        runs=tuple(infos),
        train=train,
        validation=_heldout(validation).filter(pl.col("loss").is_finite()),
        evaluation=evaluation.filter(pl.col("value").is_finite()),
        points=_read(fit / "points.csv", _points, problems),
        fit=_read(fit / "fit.json", _fit, problems),
        forecast=_read(fit / "prediction.json", _forecast, problems),
        outcome=_read(fit / "verdict.json", _outcome, problems),
        problems=tuple(problems),
    )


def _heldout(validation: pl.DataFrame) -> pl.DataFrame:
    """Only the held-out split, where rows of several splits were recorded."""
    heldout = validation.filter(pl.col("split") == "heldout")
    return heldout if len(heldout) else validation


def _read(path: Path, parse: Callable[[Path], T], problems: list[str]) -> T | None:
    """What a file of the fit folder says, or None with a sentence in ``problems`` where it cannot be read."""
    if not path.exists():
        return None
    try:
        return parse(path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pl.exceptions.PolarsError) as error:
        name = path.name if path.suffix == ".toml" else f"{path.parent.name}/{path.name}"
        problems.append(f"{name} could not be read ({type(error).__name__}: {error}).")
        return None


def _declared(path: Path) -> tuple[str, tuple[str, ...]]:
    """Description and held-out variants of a study file; the study itself is resolved elsewhere."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    study, fit = tables.get("study", {}), tables.get("fit", {})
    return str(study.get("description", "")), tuple(str(name) for name in fit.get("holdout", ()))


def _points(path: Path) -> pl.DataFrame:
    frame = pl.read_csv(
        path, schema_overrides={"run": pl.String, "params": pl.Float64, "data": pl.Float64, "flops": pl.Float64}
    )
    return frame.select("params", "data", "flops", "loss", "run", "depth", "seed", "step")


def _document(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return cast("dict[str, Any]", document)


def _fit(path: Path) -> FitResult:
    return FitResult.from_json(_document(path))


def _forecast(path: Path) -> Forecast:
    record = _document(path)
    return Forecast(
        made=str(record["made"]),
        beforehand=bool(record.get("before_training", True)),
        law=str(record["law"]),
        level=float(record["level"]),
        predictions=tuple(record["predictions"]),
    )


def _outcome(path: Path) -> Outcome:
    record = _document(path)
    return Outcome(checks=tuple(_check(entry) for entry in record["checks"]), sentence=str(record["sentence"]))


def _check(entry: Mapping[str, Any]) -> Check:
    low, high = entry["interval"]
    return Check(
        run=str(entry["run"]),
        depth=int(entry["depth"]),
        params=float(entry["params"]),
        data=float(entry["data"]),
        predicted=float(entry["predicted"]),
        interval=(float(low), float(high)),
        level=float(entry["level"]),
        measured=float(entry["measured"]),
        held=bool(entry["held"]),
    )
