"""The JSON form of a fit, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from scaling.calibration import Calibration
from scaling.criteria import Criteria
from scaling.errors import FitInputError
from scaling.estimates import Estimate
from scaling.jsontypes import finite_json
from scaling.notices import Notice
from scaling.points import AXES, Points
from scaling.predictions import Prediction
from scaling.provenance import Provenance
from scaling.results import FitResult

SCHEMA = 1
MAX_STORED_ROWS = 10_000
"""Points of fits with more rows than this stay out of the JSON form."""


def as_document(result: FitResult) -> dict[str, Any]:
    """A fit as JSON types; nan and infinity become null."""
    plain = asdict(replace(result, points=None))
    for name in ("draws", "luck", "run_draws", "run_luck", "residuals"):
        plain[name] = getattr(result, name).tolist()
    if result.points is not None and result.points.n <= MAX_STORED_ROWS:
        plain["points"] = {name: values.tolist() for name, values in vars(result.points).items() if values is not None}
    return {"schema": SCHEMA, **finite_json(plain)}


def parse(document: Mapping[str, Any]) -> FitResult:
    """Inverse of :func:`as_document`.

    Raises:
        FitInputError: the document is of another schema or lacks a key.
    """
    if document.get("schema") != SCHEMA:
        raise FitInputError(f"fit file has schema {document.get('schema')!r}; this version reads {SCHEMA}")
    try:
        return _result(document)
    except KeyError as missing:
        raise FitInputError(f"fit file lacks the key {missing}") from missing
    except (TypeError, ValueError, AttributeError) as error:
        raise FitInputError(f"not a fit file of this version ({error})") from error


def _result(document: Mapping[str, Any]) -> FitResult:
    provenance = dict(document["provenance"])
    provenance["sources"] = tuple(provenance["sources"])
    provenance["dropped"] = tuple((reason, int(count)) for reason, count in provenance["dropped"])
    parameters = _estimates(document["parameters"])
    return FitResult(
        law=document["law"],
        formula=document["formula"],
        status=document["status"],
        n_points=document["n_points"],
        n_clusters=document["n_clusters"],
        objective=_number(document["objective"]),
        loss_kind=document["loss_kind"],
        level=document["level"],
        parameters=parameters,
        compute_optimal=_estimates(document["compute_optimal"]),
        predictions=tuple(_prediction(row) for row in document["predictions"]),
        warnings=tuple(Notice(**row) for row in document["warnings"]),
        provenance=Provenance(**provenance),
        resampling=document["resampling"],
        observed={axis: _pair(pair) for axis, pair in document["observed"].items()},
        criteria=_criteria(document["criteria"]),
        intervals=document["intervals"],
        draws=np.array(document["draws"], dtype=np.float64).reshape(-1, len(parameters)),
        luck=np.array(document["luck"], dtype=np.float64),
        run_draws=np.array(document["run_draws"], dtype=np.float64).reshape(-1, len(parameters)),
        run_luck=np.array(document["run_luck"], dtype=np.float64),
        residuals=np.array(document["residuals"], dtype=np.float64),
        run_noise=float(document.get("run_noise", 0.0)),
        run_freedom=int(document.get("run_freedom", 0)),
        calibration=None if document["calibration"] is None else Calibration.from_json(document["calibration"]),
        starts_agreeing=float(document.get("starts_agreeing", 1.0)),
        points=Points(**document["points"]) if document.get("points") else None,
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _pair(value: Sequence[Any]) -> tuple[float, float]:
    return _number(value[0]), _number(value[1])


def _estimates(table: Mapping[str, Any]) -> dict[str, Estimate]:
    return {
        name: Estimate(
            value=_number(row["value"]),
            stderr=_number(row["stderr"]),
            interval=_pair(row["interval"]),
            stderr_log=row.get("stderr_log"),
        )
        for name, row in table.items()
    }


def _prediction(row: Mapping[str, Any]) -> Prediction:
    places = {axis: None if row.get(axis) is None else float(row[axis]) for axis in AXES}
    return Prediction(
        **places,
        loss=_number(row["loss"]),
        interval=_pair(row["interval"]),
        law_interval=_pair(row["law_interval"]),
        mean_interval=_pair(row["mean_interval"]),
    )


def _criteria(row: Mapping[str, Any]) -> Criteria:
    return Criteria(aicc=_number(row["aicc"]), bic=_number(row["bic"]), likelihood=row["likelihood"])
