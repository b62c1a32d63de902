"""A metric, and its measured values beside the losses of the same models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scaling.errors import FitInputError
from scaling.points import FloatArray, LabelArray

Direction = Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is known about a metric before it is measured.

    Attributes:
        name: its name.
        direction: "max" where higher is better, "min" where lower is.
        chance: value of a model that has learned nothing; None where it is not known.
        ceiling: best possible value; None where it is not known.
        low: no value is lower.
        high: no value is higher.

    Raises:
        FitInputError: the direction is neither, or chance is not worse than the ceiling.
    """

    name: str
    direction: Direction
    chance: float | None = None
    ceiling: float | None = None
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            raise FitInputError(f"direction of {self.name} is '{self.direction}': valid: max, min")
        if not self.bottom < self.top:
            raise FitInputError(
                f"{self.name}: chance {self.chance} and ceiling {self.ceiling} do not fit '{self.direction}'"
                f" (range {self.low:g} to {self.high:g}): the ceiling is the best value, chance the worst"
            )

    @property
    def worst(self) -> float:
        """Bound on the bad side: chance, else the end of the range."""
        return self.chance if self.chance is not None else (self.low if self.direction == "max" else self.high)

    @property
    def best(self) -> float:
        """Bound on the good side: the ceiling, else the end of the range."""
        return self.ceiling if self.ceiling is not None else (self.high if self.direction == "max" else self.low)

    @property
    def bottom(self) -> float:
        """Least value that a prediction may have."""
        return self.worst if self.direction == "max" else self.best

    @property
    def top(self) -> float:
        """Greatest value that a prediction may have."""
        return self.best if self.direction == "max" else self.worst

    def clip(self, values: FloatArray) -> FloatArray:
        """Values within the metric's range."""
        return np.clip(values, self.bottom, self.top)


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricRows:
    """Measured values of a metric, each beside the loss of the same model.

    Args:
        loss: validation loss, shape (n,), finite.
        value: the metric, shape (n,), finite.
        cluster: labels of what is independent, usually the run, shape (n,); None makes every row its own.
        flops: training FLOPs, shape (n,), positive; None where they are not known.
        stderr: standard error of the value, shape (n,); None where it is not known.
        trials: how many yes-or-no outcomes the value is the mean of, shape (n,); None where it is not such a mean.

    Raises:
        FitInputError: lengths differ, there is no row, or a value is not finite.
    """

    loss: FloatArray
    value: FloatArray
    cluster: LabelArray | None = None
    flops: FloatArray | None = None
    stderr: FloatArray | None = None
    trials: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "value", "flops", "stderr", "trials"):
            column = getattr(self, name)
            if column is not None:
                object.__setattr__(self, name, _finite(name, column))
        if self.cluster is not None:
            object.__setattr__(self, "cluster", np.asarray(self.cluster).astype(np.str_))
        lengths = {name: len(column) for name, column in self._given().items()}
        if len(set(lengths.values())) != 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise FitInputError(f"columns of different lengths: {listed}")
        if not self.n:
            raise FitInputError("no row has both a loss and the metric")
        if self.flops is not None and not (self.flops > 0).all():
            raise FitInputError("flops: every value must be positive")

    def _given(self) -> dict[str, npt.NDArray[Any]]:
        names = ("loss", "value", "cluster", "flops", "stderr", "trials")
        return {name: column for name in names if (column := getattr(self, name)) is not None}

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.loss)

    @property
    def labels(self) -> LabelArray:
        """Cluster of every row, shape (n,): its number where none was given."""
        return np.arange(self.n).astype(np.str_) if self.cluster is None else self.cluster

    def take(self, index: npt.NDArray[Any]) -> MetricRows:
        """The rows ``index`` (numbers or a mask), in that order."""
        return MetricRows(**{name: column[index] for name, column in self._given().items()})

    def canonical(self) -> MetricRows:
        """The same rows in an order that depends on their values only."""
        given = self._given()
        return self.take(np.lexsort([given[name] for name in given]))


def _finite(name: str, values: Any) -> FloatArray:
    vector = np.array(values, dtype=np.float64)
    if vector.ndim != 1:
        raise FitInputError(f"{name} must be one column of numbers, got shape {vector.shape}")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise FitInputError(f"{name}[{bad[0]}] is {vector[bad[0]]}: every {name} must be a finite number")
    return vector
