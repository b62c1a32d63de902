"""``prx-scale fit``: a scaling law from a table of losses or a study."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling import FitResult

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_DATA_KEYS = ("data", "samples", "tokens")
Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit a scaling law and predict the next run.

    Reads CSV, Parquet or JSON-lines files, or study directories, finds the true optimum of a robust fit,
    and reports parameters, compute-optimal exponents and predictions with intervals, and what to distrust.

    Example: prx-scale fit runs.csv --where split=heldout --predict params=1.3B,samples=40M --html fit.html
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """CSV, Parquet or JSONL files, or study directories."""
    law: str | None = None
    """chinchilla, tied, coupled, kaplan, overtraining, or power_floor:X or power:X along one axis X of params, data and
    flops. Default: the study's, else chinchilla."""
    predict: Repeated = ()
    """Run to predict: params=1.3B,samples=40M (or tokens=, data=); flops=5e22 alone takes the optimal split."""
    columns: Repeated = ()
    """Which column is what: params=n_params,loss=val/loss (keys: params, data, loss, flops, cluster, weight)."""
    where: Repeated = ()
    """Keep rows that meet a condition: split=heldout, eval_set=c4_val, flops>=1e18. Repeat to combine."""
    cluster: str | None = None
    """Column whose rows are resampled together, or row; default: the run column where there is one."""
    bootstrap: int | None = None
    """Resamples behind the intervals; 0 leaves them out. Default: the study's, else 1000."""
    level: float | None = None
    """Level of the intervals. Default: the study's, else 0.8."""
    seed: int = 0
    """Seed of the resamples."""
    json: str | None = None
    """Write the fit as JSON to this file; - writes it, and nothing else, to standard output."""
    html: Path | None = None
    """Write a self-contained HTML page of the fit to this file."""

    def run(self) -> int:
        """Fit, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        from prx_scale import sources
        from prx_scale.runs import write_atomically

        targets = [parse_target(text) for text in self.predict]
        loaded = sources.load(self.sources, sources.parse_columns(self.columns), self.where, self.cluster)
        result = self._fit(loaded, targets)
        if self.json == "-":
            sys.stdout.write(as_text(result))
        elif self.json is not None:
            write_atomically(Path(self.json), as_text(result))
        if self.html is not None:
            from reports.fit_page import render_fit_page

            write_atomically(self.html, render_fit_page(result, loaded.points))
        if self.json != "-":
            from prx_scale.commands.fit_output import print_fit

            print_fit(result, loaded.notices)
            for path in (self.json, self.html):
                if path is not None:
                    print(f"wrote {path}")
        return 0

    def _fit(self, loaded: Loaded, targets: list[dict[str, float]]) -> FitResult:
        from prx_scale.runs import now
        from scaling import FitInputError, fit

        table = loaded.fit
        law = self.law or (table.law if table else "chinchilla")
        resamples = self.bootstrap if self.bootstrap is not None else (table.bootstrap if table else 1000)
        level = self.level if self.level is not None else (table.level if table else 0.8)
        unit = loaded.provenance.data_unit
        provenance = replace(loaded.provenance, created=now(), command=command_line(sys.argv))
        try:
            runs = resolve_targets(loaded, law, targets)
            return fit(
                loaded.points,
                law=law,
                bootstrap=resamples,
                level=level,
                seed=self.seed,
                predict=runs,
                flops_per=provenance.flops_per,
                provenance=provenance,
            )
        except FitInputError as error:
            raise InputError(f"{', '.join(loaded.provenance.sources)} (data in {unit}): {error}") from error


def parse_target(text: str) -> dict[str, float]:
    """Read ``params=1.3B,samples=40M``.

    Returns:
        Values under "params", "data" and "flops", those that were given; a given unit under "samples" or
        "tokens" as well, so that it can be checked against the points.

    Raises:
        InputError: an unknown key, a value that is not a positive number, or too little to place a run.
    """
    target: dict[str, float] = {}
    for part in text.split(","):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or key not in ("params", "flops", *_DATA_KEYS):
            raise InputError(
                f"--predict {text}: expected params=..,samples=.. (or tokens=, data=, flops=), got '{part}'"
            )
        if key in target or (key in _DATA_KEYS and "data" in target):
            raise InputError(f"--predict {text}: '{key}' says twice how much; give it once")
        target[key] = parse_quantity(value, f"--predict {text}")
        if key in _DATA_KEYS:
            target["data"] = target[key]
    given = {key for key in ("params", "data", "flops") if key in target}
    if given not in ({"params", "data"}, {"params", "flops"}, {"data", "flops"}, {"flops"}):
        raise InputError(f"--predict {text}: give two of params, data and flops, or flops alone for the optimal split")
    return target


def parse_quantity(text: str, where: str) -> float:
    """Read ``1.3B``, ``40M``, ``5e22``: K, M, B (or G) and T are powers of a thousand.

    Raises:
        InputError: not a positive number.
    """
    factor = _SUFFIXES.get(text[-1:].lower(), 1.0)
    digits = text[:-1] if text[-1:].lower() in _SUFFIXES else text
    try:
        number = float(digits) * factor
    except ValueError:
        raise InputError(f"{where}: '{text}' is not a number; write 1.3B, 40M or 5e22") from None
    if not 0 < number < float("inf"):
        raise InputError(f"{where}: '{text}' must be positive and finite")
    return number


def resolve_targets(loaded: Loaded, law: str, targets: list[dict[str, float]]) -> list[tuple[float, float]]:
    """(params, data) of every target; what flops leaves open follows from C = k N D and the optimum.

    Raises:
        InputError: a unit that the points do not have, or flops where the points have none.
    """
    import numpy as np

    from scaling import fit

    unit = loaded.provenance.data_unit
    for target in targets:
        other = "tokens" if unit == "samples" else "samples"
        if other in target:
            column = loaded.provenance.columns.get("data", "data")
            raise InputError(f"--predict {other}=: these points count data in {unit} (column '{column}'); use {unit}=")
    if not any("flops" in target for target in targets):
        return [(target["params"], target["data"]) for target in targets]
    points, k = loaded.points, loaded.provenance.flops_per
    if points.flops is not None:
        k = float(np.median(points.flops / (points.params * points.data)))
    if k is None:
        raise InputError("--predict flops=: the points have no flops column, so compute cannot be turned into a run")
    quick = fit(points, law=law, bootstrap=0, flops_per=k)
    return [_place(target, quick, k) for target in targets]


def _place(target: dict[str, float], quick: FitResult, k: float) -> tuple[float, float]:
    from scaling.laws import get_law

    if "flops" not in target:
        return target["params"], target["data"]
    if "params" in target:
        return target["params"], target["flops"] / (k * target["params"])
    if "data" in target:
        return target["flops"] / (k * target["data"]), target["data"]
    if get_law(quick.law).axes == ("flops",):
        # Compute alone decides, so any split gives the same loss: take the middle of the sizes measured.
        low, high = quick.observed["params"]
        params = (low * high) ** 0.5
        return params, target["flops"] / (k * params)
    params, data, _ = quick.frontier(target["flops"])
    return float(params), float(data)


def as_text(result: FitResult) -> str:
    """The result as a JSON document."""
    import json

    return json.dumps(result.to_json(), allow_nan=False) + "\n"


def command_line(argv: list[str]) -> str:
    """The command as a shell would take it, the program without its folder."""
    import shlex

    return shlex.join([Path(argv[0]).name, *argv[1:]])
