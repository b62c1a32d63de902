"""The rows of a run's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Table = Literal["train", "validation", "evaluation"]
TABLES: tuple[Table, ...] = ("train", "validation", "evaluation")
Weights = Literal["raw", "ema"]


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
TABLE_OF: dict[type, Table] = {TrainRow: "train", ValidationRow: "validation", EvaluationRow: "evaluation"}
