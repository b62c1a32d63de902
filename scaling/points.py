"""Measured points: what goes into a fit, checked once so that nothing behind it has to check again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError

FloatArray = npt.NDArray[np.float64]
LabelArray = npt.NDArray[np.str_]
IntArray = npt.NDArray[np.intp]

_SAME_PLACE = 0.01  # values closer than this (relative) are one place
AXES = ("params", "data", "flops", "steps", "unique")
ONE_AXIS = ("params", "data", "flops", "steps")  # those along which a law of one axis makes sense
_NUMBERS = (*AXES, "loss", "stderr", "weight")
_COLUMNS = (*_NUMBERS, "cluster")


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Validation losses, and what the models behind them were given.

    A table may lack any axis: a law asks for those that it needs.

    Args:
        loss: validation loss L, shape (n,), positive.
        params: trainable parameters N, shape (n,), positive; like every axis, None where it was not recorded.
        data: samples or tokens seen D, shape (n,), positive.
        flops: training FLOPs C, shape (n,), positive.
        steps: optimiser steps S, shape (n,), positive.
        unique: distinct samples or tokens in the training set, in the unit of ``data``, shape (n,), positive;
            smaller than ``data`` where data were repeated.
        stderr: known standard error of ``loss``, in units of the loss, shape (n,), positive.
        cluster: labels of what was drawn independently, usually the run, shape (n,); None makes every
            row its own cluster. Rows with one label are resampled together.
        weight: how often a row counts, shape (n,), non-negative; None counts every row once.

    Raises:
        FitInputError: lengths differ, there is no row, or a value is not finite or not positive.
    """

    loss: FloatArray
    params: FloatArray | None = None
    data: FloatArray | None = None
    flops: FloatArray | None = None
    steps: FloatArray | None = None
    unique: FloatArray | None = None
    stderr: FloatArray | None = None
    cluster: LabelArray | None = None
    weight: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, _as_vector(name, values))
        if self.cluster is not None:
            object.__setattr__(self, "cluster", np.asarray(self.cluster).astype(np.str_))
        self._check_lengths()
        if self.weight is not None and float(self.weight.sum()) <= 0:
            raise FitInputError("weight: every weight is 0; at least one row has to count")

    def _check_lengths(self) -> None:
        n = len(self.loss)
        if n == 0:
            raise FitInputError("no points: a fit needs at least one row")
        for name, values in self._given().items():
            if len(values) != n:
                raise FitInputError(f"{name} has {len(values)} values and loss has {n}; they must match")

    def _given(self) -> dict[str, npt.NDArray[Any]]:
        """The columns that are there, by name."""
        return {name: values for name in _COLUMNS if (values := getattr(self, name)) is not None}

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.loss)

    @property
    def weights(self) -> FloatArray:
        """Row weights, shape (n,): ones where none were given."""
        return np.ones(self.n) if self.weight is None else self.weight

    @property
    def cluster_codes(self) -> npt.NDArray[np.intp]:
        """Cluster number of every row, shape (n,), 0 to n_clusters - 1."""
        if self.cluster is None:
            return np.arange(self.n, dtype=np.intp)
        return np.unique(self.cluster, return_inverse=True)[1].astype(np.intp)

    @property
    def n_clusters(self) -> int:
        """Number of independent units."""
        return self.n if self.cluster is None else len(np.unique(self.cluster))

    @property
    def flops_per(self) -> float | None:
        """k in C = k N D, the median over rows; None where one of the three was not recorded."""
        if self.params is None or self.data is None or self.flops is None:
            return None
        return float(np.median(self.flops / (self.params * self.data)))

    def need(self, name: str) -> FloatArray:
        """The column of that name, shape (n,).

        Raises:
            FitInputError: the points have no such column; the message names those that they have.
        """
        values: FloatArray | None = getattr(self, name)
        if values is None:
            have = ", ".join(self._given())
            raise FitInputError(f"the points have no column for {name} (they have {have})")
        return values

    def compute(self, flops_per: float | None) -> FloatArray | None:
        """Training FLOPs, shape (n,): the measured ones, else ``flops_per * params * data``, else None."""
        if self.flops is not None:
            return self.flops
        if flops_per is None or self.params is None or self.data is None:
            return None
        return flops_per * self.params * self.data

    def axis(self, name: str, flops_per: float | None) -> FloatArray | None:
        """One of ``AXES``, shape (n,), compute by way of :meth:`compute`; None where the points do not say."""
        return self.compute(flops_per) if name == "flops" else getattr(self, name)

    def ends(self, values: FloatArray) -> FloatArray:
        """The greatest of ``values``, shape (n,), in the cluster of every row: where its run ends, shape (n,)."""
        codes = self.cluster_codes
        last = np.full(self.n_clusters, -np.inf)
        np.maximum.at(last, codes, values)
        return last[codes]

    def take(self, index: npt.NDArray[Any]) -> Points:
        """The rows ``index`` (numbers or a mask), in that order."""
        picked = {name: values[index] for name, values in self._given().items()}
        return replace(self, **picked)

    def order(self) -> npt.NDArray[np.intp]:
        """Row numbers in an order that depends on the values of the rows only, so that row order cannot matter."""
        keys = ("cluster", "weight", "stderr", "unique", "steps", "flops", "loss", "data", "params")
        given = self._given()
        return np.lexsort([given[name] for name in keys if name in given])

    def canonical(self) -> Points:
        """The same rows in that order."""
        return self.take(self.order())


def _as_vector(name: str, values: Any) -> FloatArray:
    vector = np.array(values, dtype=np.float64)
    if vector.ndim != 1:
        raise FitInputError(f"{name} must be one column of numbers, got shape {vector.shape}")
    lower_ok = vector >= 0 if name == "weight" else vector > 0
    bad = np.flatnonzero(~(np.isfinite(vector) & lower_ok))
    if len(bad):
        kind = "non-negative" if name == "weight" else "positive"
        raise FitInputError(
            f"{name}[{bad[0]}] is {vector[bad[0]]}: every {name} must be a finite, {kind} number"
            f" ({len(bad)} of {len(vector)} are not)"
        )
    vector.setflags(write=False)
    return vector


def places(values: FloatArray) -> IntArray:
    """Number of the distinct place of every value, shape (n,): values within 1 % of a place's least one share it."""
    order = np.argsort(values, kind="stable")
    logs = np.log(values[order])
    firsts = [0]
    while (following := int(np.searchsorted(logs, float(logs[firsts[-1]]) + _SAME_PLACE, side="right"))) < len(logs):
        firsts.append(following)
    numbers = np.empty(len(values), dtype=np.intp)
    numbers[order] = np.repeat(np.arange(len(firsts)), np.diff([*firsts, len(logs)]))
    return numbers
