"""``prx-scale fit``: a scaling law from a table of losses or a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.commands.fitted import FittedOptions, naming_sources
from prx_scale.commands.point_options import Repeated, write_json
from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling import FitResult

_DATA_KEYS = ("data", "samples", "tokens")
_AXES = ("params", "data", "flops", "steps", "unique")


@dataclass(frozen=True, kw_only=True)
class Fit(FittedOptions):
    """Fit a scaling law and predict the next run.

    Reads tables, TensorBoard and W&B logs, or study directories, finds the true optimum of a robust fit,
    and reports parameters, compute-optimal exponents and predictions with intervals, and what to distrust.

    Example: prx-scale fit runs.csv --where split=heldout --predict params=1.3B,samples=40M --html fit.html
    """

    law: str | None = None
    """chinchilla, tied, coupled, kaplan, overtraining, data_constrained, or power_floor:X, power:X or broken:X along
    one axis X of params, data, flops and steps. Default: the study's, else chinchilla."""
    predict: Repeated = ()
    """Run to predict: params=1.3B,samples=40M (or tokens=, data=), steps=, unique=; flops=5e22 alone takes the optimal
    split."""
    loss: str = "huber"
    """What to minimise: huber, least-squares or lad on log loss, or linear (squares of the loss itself)."""
    delta: float = 1e-3
    """Half the width of Huber's quadratic zone in log loss."""
    asymmetry: float = 1.0
    """Factor on rows below the curve; 10 draws it to the lower edge, where well-tuned runs are."""
    intervals: str = "residual"
    """residual, percentile, bca, delta or profile; see docs/fitting.md."""
    by: Repeated = ()
    """Column whose every value gets a fit of its own, in one table; several columns: train_set,eval_set."""
    json: str | None = None
    """Write the fit as JSON to this file; - writes it, and nothing else, to standard output."""
    html: Path | None = None
    """Write a self-contained HTML page of the fit to this file."""

    def run(self) -> int:
        """Fit, print, and write what was asked for; 0 on success.

        Raises:
            InputError: sources, options or points that cannot be used.
        """
        targets = [parse_target(text) for text in self.predict]
        if self.by:
            from prx_scale.commands.fit_groups import run_groups

            loaded = self.load(by=[name.strip() for text in self.by for name in text.split(",")])
            return run_groups(loaded, lambda group: self._fit(group, targets), self.json, self.html)
        loaded = self.load()
        result = self._fit(loaded, targets)
        write_json(result.to_json(), self.json)
        if self.html is not None:
            from prx_scale.commands.pages import write_fit_page

            write_fit_page(self.html, result, loaded.points)
        if self.json != "-":
            from prx_scale.commands.fit_output import print_fit

            print_fit(result, loaded.notices)
            for path in (self.json, self.html):
                if path is not None:
                    print(f"wrote {path}")
        return 0

    def _fit(self, loaded: Loaded, targets: list[dict[str, float]]) -> FitResult:
        with naming_sources(loaded):
            runs = resolve_targets(loaded, self.law_for(loaded), targets)
        return self.fit_points(
            loaded,
            loss=self.loss,
            delta=self.delta,
            asymmetry=self.asymmetry,
            intervals=self.intervals,
            predict=runs,
        )


def parse_target(text: str, option: str = "--predict") -> dict[str, float]:
    """Read ``params=1.3B,samples=40M``; ``option`` is named in errors.

    Returns:
        Values by axis (params, data, flops, steps, unique), those that were given; a given unit under "samples" or
        "tokens" as well, so that it can be checked against the points.

    Raises:
        InputError: an unknown key, a value that is not a positive number, or a key given twice.
    """
    target: dict[str, float] = {}
    for part in text.split(","):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or key not in (*_AXES, *_DATA_KEYS):
            raise InputError(
                f"{option} {text}: expected params=..,samples=.. (or tokens=, data=, flops=, steps=, unique=),"
                f" got '{part}'"
            )
        if key in target or (key in _DATA_KEYS and "data" in target):
            raise InputError(f"{option} {text}: '{key}' says twice how much; give it once")
        target[key] = parse_quantity(value, f"{option} {text}")
        if key in _DATA_KEYS:
            target["data"] = target[key]
    return target


def resolve_targets(loaded: Loaded, law: str, targets: list[dict[str, float]]) -> list[dict[str, float]]:
    """The axes of every target; what flops leaves open follows from C = k N D and the optimum.

    Raises:
        InputError: a unit that the points do not have, or too little to place a run on the axes of the law.
    """
    from scaling.laws import get_law

    axes = get_law(law).axes
    return [_resolve(loaded, law, axes, target) for target in targets]


def _resolve(loaded: Loaded, law: str, axes: tuple[str, ...], target: dict[str, float]) -> dict[str, float]:
    unit = loaded.provenance.data_unit
    other = "tokens" if unit == "samples" else "samples"
    if other in target:
        column = loaded.provenance.columns.get("data", "data")
        raise InputError(f"--predict {other}=: these points count data in {unit} (column '{column}'); use {unit}=")
    run = {axis: target[axis] for axis in _AXES if axis in target}
    if "flops" in run and axes != ("steps",) and not {"params", "data"} <= set(run):
        run = _with_split(loaded, law, axes, run)
    known = {*run, *(("flops",) if {"params", "data"} <= set(run) else ()), "unique"}
    if not set(axes) <= known:
        trade = {"params", "data"} <= set(axes)
        needs = "two of params, data and flops, or flops alone for the optimal split" if trade else " and ".join(axes)
        raise InputError(f"--predict: law '{law}' needs more to place a run: give {needs}")
    return run


def _with_split(loaded: Loaded, law: str, axes: tuple[str, ...], run: dict[str, float]) -> dict[str, float]:
    """Fill in params and data from flops: by C = k N D where one of them is given, else by the optimal split."""
    from scaling import fit

    points, k = loaded.points, loaded.points.flops_per or loaded.provenance.flops_per
    if k is None:
        if axes == ("flops",):
            return run
        raise InputError("--predict flops=: the points have no flops column, so compute cannot be turned into a run")
    product = run["flops"] / k
    if "params" in run:
        return {**run, "data": product / run["params"]}
    if "data" in run:
        return {**run, "params": product / run["data"]}
    if not {"params", "data"} <= set(axes):
        return run
    params, data, _ = fit(points, law=law, bootstrap=0, flops_per=k).frontier(run["flops"])
    return {**run, "params": float(params), "data": float(data)}
