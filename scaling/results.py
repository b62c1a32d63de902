"""What a fit returns: the law with its estimates, and what it says of other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scaling.calibration import Calibration
from scaling.criteria import Criteria
from scaling.errors import FitInputError
from scaling.estimates import Estimate, interval_bounds
from scaling.holdouts import improvement
from scaling.laws import get_law
from scaling.laws.base import Frame
from scaling.notices import Notice
from scaling.points import FloatArray, Points
from scaling.predictions import Prediction
from scaling.provenance import Provenance

if TYPE_CHECKING:
    from scaling.backtest_records import Backtest
    from scaling.cost import Cost
    from scaling.planning import Allocation
    from scaling.plots.axes import AnyChart
    from scaling.plots.notebook import Kind


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A fitted law.

    Attributes:
        law: name in the registry.
        formula: plain text.
        status: "converged", "bound-hit" (a parameter stands at its limit) or "not-converged".
        n_points: rows fitted.
        n_clusters: independent units among them.
        objective: sum of the loss below at the estimate.
        loss_kind: what was minimised, in words.
        level: level of every interval.
        parameters: natural parameters by name.
        compute_optimal: "params_exponent" and "data_exponent"; empty where the law has no trade-off.
        predictions: for the runs that were asked for.
        warnings: what a reader has to know before trusting the numbers.
        provenance: where the points came from.
        resampling: how the draws were made, in words.
        observed: (least, greatest) of every axis that the points have, compute included where it is known, and of
            "data_per_param".
        criteria: AICc and BIC.
        intervals: kind of the intervals, see ``scaling.intervals``.
        draws: natural parameters of every resample, shape (bootstrap, p).
        luck: log of a new run's loss over the curve's in every resample, shape (bootstrap,).
        run_draws: natural parameters of resamples of whole runs, shape (b, p), from which calibrated intervals are
            made; empty where ``draws`` serve for both.
        run_luck: as ``luck``, for ``run_draws``, shape (b,).
        residuals: log L - log Lhat of every row, inflated by sqrt(n / (n - p)), shape (n,); without the
            offset of the row's run where ``run_noise`` stands for it.
        run_noise: standard deviation of log loss between runs of one size, where few sizes would hide it.
        run_freedom: degrees of freedom behind ``run_noise``; 0 where it was not estimated.
        calibration: what hold-outs inside the fit say about extrapolations; None without resamples.
        starts_agreeing: share of the starts that reached this objective to 1e-9.
        points: what was fitted; None after a round trip through JSON with more rows than it stores.
    """

    law: str
    formula: str
    status: str
    n_points: int
    n_clusters: int
    objective: float
    loss_kind: str
    level: float
    parameters: dict[str, Estimate]
    compute_optimal: dict[str, Estimate]
    predictions: tuple[Prediction, ...]
    warnings: tuple[Notice, ...]
    provenance: Provenance
    resampling: str
    observed: dict[str, tuple[float, float]]
    criteria: Criteria
    intervals: str
    draws: FloatArray = field(repr=False, compare=False)
    luck: FloatArray = field(repr=False, compare=False)
    residuals: FloatArray = field(repr=False, compare=False)
    run_noise: float = 0.0
    run_freedom: int = 0
    calibration: Calibration | None = None
    run_draws: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False, compare=False)
    run_luck: FloatArray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    starts_agreeing: float = 1.0
    points: Points | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        """The fit as the command line prints it."""
        from scaling.summary import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        from scaling.summary import as_html

        return as_html(self)

    @property
    def values(self) -> FloatArray:
        """Natural parameters in the law's order, shape (p,)."""
        return np.array([estimate.value for estimate in self.parameters.values()])

    def predict(
        self,
        params: npt.ArrayLike | None = None,
        data: npt.ArrayLike | None = None,
        *,
        flops: npt.ArrayLike | None = None,
        steps: npt.ArrayLike | None = None,
        unique: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Predicted loss. A law takes what it needs of what is given; all of it must broadcast.

        Args:
            params: N, a number or array.
            data: D in the unit of the points.
            flops: training FLOPs; k N D where it is left out and k is known.
            steps: optimiser steps.
            unique: distinct samples or tokens; as much as ``data``, so nothing repeated, where it is left out.

        Returns:
            Loss, of the broadcast shape.

        Raises:
            FitInputError: the law needs an axis that was not given and does not follow from the others.
        """
        x, shape = self.log_axes(params=params, data=data, flops=flops, steps=steps, unique=unique)
        return get_law(self.law).predict(self.values[None], x)[0].reshape(shape)

    def predict_interval(
        self,
        params: npt.ArrayLike | None = None,
        data: npt.ArrayLike | None = None,
        level: float | None = None,
        *,
        flops: npt.ArrayLike | None = None,
        steps: npt.ArrayLike | None = None,
        unique: npt.ArrayLike | None = None,
        calibrated: bool = True,
    ) -> tuple[FloatArray, FloatArray]:
        """Prediction interval of a new run: parameter draws, each with the luck of a run, and drift.

        Args:
            params: N; this and the other axes as for :meth:`predict`.
            data: D in the unit of the points.
            level: share of new runs inside; the result's own level by default.
            flops: training FLOPs.
            steps: optimiser steps.
            unique: distinct samples or tokens.
            calibrated: leave room for the law being only approximately right, see :mod:`scaling.calibration`;
                without, the law is taken for true, which on real tables is too narrow beyond the data.

        Returns:
            Lower and upper loss, each of the broadcast shape; nan without resamples.

        Raises:
            FitInputError: the law needs an axis that was not given and does not follow from the others.
        """
        x, shape = self.log_axes(params=params, data=data, flops=flops, steps=steps, unique=unique)
        if not len(self.draws):
            return np.full(shape, np.nan), np.full(shape, np.nan)
        of_runs = calibrated and self.calibration is not None and len(self.run_draws) > 0
        draws, luck = (self.run_draws, self.run_luck) if of_runs else (self.draws, self.luck)
        loss = get_law(self.law).predict(draws, x)
        # One draw of luck per resample, shared by all runs asked for: intervals along a curve are then smooth, and
        # the interval of a run does not depend on what else was asked.
        luck = luck[:, None]
        if calibrated and self.calibration is not None:
            drift = self.calibration.drift(len(loss), self.provenance.seed)
            luck = luck + drift[:, None] * self._improvement(x, self.calibration.largest)
        loss = loss * np.exp(luck)
        low, high = np.quantile(loss, interval_bounds(self.level if level is None else level), axis=0)
        return low.reshape(shape), high.reshape(shape)

    def _improvement(self, x: FloatArray, largest: float) -> FloatArray:
        law = get_law(self.law)
        frame = Frame(centre=np.zeros(len(law.axes)), log_scale=0.0)
        return improvement(law, law.to_internal(self.values[None], frame)[0], x, largest)

    def frontier(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute-optimal params, data and loss at budgets C, each of the shape of ``flops``.

        Raises:
            FitInputError: the law has no trade-off, or the points do not say what a sample costs.
        """
        budgets = np.asarray(flops, dtype=np.float64)
        if self.provenance.flops_per is None:
            raise FitInputError("the frontier needs compute: give the points a flops column")
        best = get_law(self.law).frontier(self.values[None], budgets.ravel(), self.provenance.flops_per)
        if best is None:
            raise FitInputError(f"law '{self.law}' has no trade-off between params and data")
        params, data, loss = (part[0].reshape(budgets.shape) for part in best)
        return params, data, loss

    def known_points(self) -> Points:
        """The points of the fit.

        Raises:
            FitInputError: the fit was read from JSON, and had too many points to be stored with it.
        """
        if self.points is None:
            from scaling.results_json import MAX_STORED_ROWS

            raise FitInputError(
                f"this fit does not hold its points (more than {MAX_STORED_ROWS} are not stored): fit them again"
            )
        return self.points

    def backtest(self, laws: Sequence[str] = (), **options: Any) -> Backtest:
        """Fit below cuts in compute and predict the larger runs among the points of this fit.

        Args:
            laws: laws to test; this fit's own and the baseline, a power of compute with a floor, by default.
            **options: as for :func:`scaling.backtest.backtest`.

        Raises:
            FitInputError: the points are not at hand, or do not bear a backtest.
        """
        from scaling.backtest import BASELINE, backtest

        given: dict[str, Any] = {
            "level": self.level,
            "seed": self.provenance.seed,
            "flops_per": self.provenance.flops_per,
        }
        tested = laws or tuple(dict.fromkeys((self.law, BASELINE)))
        return backtest(self.known_points(), tested, **{**given, **options})

    def plot(self, kind: Kind = "fit") -> AnyChart:
        """An altair chart of this fit; see :func:`scaling.plots.notebook.plot`."""
        from scaling.plots.notebook import plot

        return plot(self, kind)

    def allocate(self, flops: float, cost: Cost | None = None, unique: float | None = None) -> Allocation:
        """The best use of a training budget: N*, D* and L* with intervals, and what other sizes cost.

        Args:
            flops: training budget C in FLOPs.
            cost: FLOPs of one sample where that is not k N; see :class:`scaling.cost.Cost`.
            unique: distinct samples that there are, for laws of repeated data; as many as are seen where None.

        Raises:
            FitInputError: the law has no trade-off, or what a sample costs is unknown.
        """
        from scaling.planning import allocate

        return allocate(self, flops, cost, unique=unique)

    def log_axes(self, **given: npt.ArrayLike | None) -> tuple[FloatArray, tuple[int, ...]]:
        """Log axes of the law, shape (axes, m), and the shape that the answer is to have."""
        names = [name for name, values in given.items() if values is not None]
        arrays = np.broadcast_arrays(*(np.asarray(given[name], dtype=np.float64) for name in names))
        columns: dict[str, FloatArray] = dict(zip(names, arrays, strict=True))
        k = self.provenance.flops_per
        if "flops" not in columns and k is not None and "params" in columns and "data" in columns:
            columns["flops"] = k * columns["params"] * columns["data"]
        if "unique" not in columns and "data" in columns:
            columns["unique"] = columns["data"]
        axes = get_law(self.law).axes
        for axis in axes:
            if axis not in columns:
                have = f" (only {' and '.join(names)} given)" if names else ""
                raise FitInputError(f"law '{self.law}' predicts from {' and '.join(axes)}: give {axis} as well{have}")
        return np.log(np.stack([columns[axis].ravel() for axis in axes])), columns[axes[0]].shape

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; nan and infinity become null."""
        from scaling.results_json import as_document

        return as_document(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FitResult:
        """Inverse of :meth:`to_json`.

        Raises:
            FitInputError: the document is of another schema or lacks a key.
        """
        from scaling.results_json import parse

        return parse(document)
