"""Points from a frame: which column is what. The names are those that the command line recognises.

A frame is whatever gives a column by its name: a polars or pandas frame, a dict of sequences. Nothing is imported for
it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scaling.errors import FitInputError
from scaling.points import FloatArray, Points

SYNONYMS: dict[str, tuple[str, ...]] = {
    "params": ("params", "n_params", "num_params", "N", "parameters", "n_parameters", "num_parameters", "model_size"),
    "data": ("samples", "tokens", "D", "data", "n_tokens", "num_tokens", "n_samples", "num_samples", "tokens_seen",
             "samples_seen", "images_seen", "train_tokens"),
    "loss": ("val_loss", "validation_loss", "val/loss", "validation/loss", "validation_metrics/loss", "valid_loss",
             "valid/loss", "eval_loss", "eval/loss", "loss"),
    "flops": ("flops", "C", "compute", "total_flops", "train_flops", "training_flops"),
    "steps": ("steps", "step", "_step", "global_step", "trainer/global_step", "iteration"),
    "unique": ("unique", "unique_tokens", "unique_samples"),
    "stderr": ("stderr", "loss_stderr", "std"),
    "cluster": ("run", "run_id", "run_name", "cluster"),
    "weight": (),
}  # fmt: skip
"""Our columns and the names that are recognised for each, the likeliest first."""
FLOPS_PER_TOKEN = 6.0
"""k in C = k N D for tokens: 2 forward, 4 backward per parameter (Kaplan et al. 2020, arXiv 2001.08361, sec. 2.1)."""
OPTIONAL = ("steps", "unique", "stderr")
"""Columns that a fit can do without: where a guess turns out to hold no usable numbers, it is let go."""


class Frame(Protocol):
    """A table whose columns can be taken by name."""

    @property
    def columns(self) -> Iterable[str]:
        """Names of its columns."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """The column of that name."""
        ...


Table = Frame | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Points of a frame.

    Attributes:
        points: what goes into a fit.
        columns: our column to the frame's.
        data_unit: "tokens" or "samples".
    """

    points: Points
    columns: dict[str, str]
    data_unit: str

    @property
    def flops_per(self) -> float | None:
        """k in C = k N D where the points do not say it: 6 for tokens, else unknown."""
        return FLOPS_PER_TOKEN if self.data_unit == "tokens" else None


def candidates(names: Sequence[str], key: str) -> list[str]:
    """Columns that may be ours by their names, the likeliest first; capitals matter in names of one letter only."""
    lowered = {name.lower(): name for name in reversed(names)}
    hits = [
        name if name in names else lowered.get(name.lower()) if len(name) > 1 else None  # D is data, d may be anything
        for name in SYNONYMS[key]
    ]
    return list(dict.fromkeys(name for name in hits if name is not None))


def points_from(table: Table, columns: Mapping[str, str] | None = None, cluster: str | None = None) -> Points:
    """Points of a frame; arguments and errors as for :func:`gather`."""
    return gather(table, columns, cluster).points


def gather(table: Table, columns: Mapping[str, str] | None = None, cluster: str | None = None) -> Gathered:
    """Points of a frame, and what was read from where.

    Params or data that are not there are found from C = 6 N D where the frame has flops.

    Args:
        table: a polars or pandas frame, or a mapping of names to sequences, each of shape (n,).
        columns: our name (params, data, loss, flops, steps, unique, stderr, cluster, weight) to the frame's, for those
            that are not to be guessed.
        cluster: column whose rows are resampled together, or "row"; a column of runs by default where there is one.

    Raises:
        FitInputError: not a frame, a column that is not there or holds other than numbers, or no column of losses.
    """
    names = _names(table)
    chosen = dict(columns or {}) | ({} if cluster is None else {"cluster": cluster})
    if chosen.get("cluster") == "row":
        del chosen["cluster"]
        found = {key: name for key, name in _find(names, chosen).items() if key != "cluster"}
    else:
        found = _find(names, chosen)
    values: dict[str, FloatArray] = {}
    for key, name in found.items():
        if key != "cluster":
            numbers = _numbers(table[name], name, key, needed=key in chosen or key not in OPTIONAL)
            values |= {} if numbers is None else {key: numbers}
    unit = "tokens" if "token" in found.get("data", "").lower() else "samples"
    for absent, other in (("data", "params"), ("params", "data")):
        if absent not in values and other in values and "flops" in values:
            values[absent], unit = values["flops"] / (FLOPS_PER_TOKEN * values[other]), "tokens"
    labels = np.asarray(table[found["cluster"]]).astype(np.str_) if "cluster" in found else None
    read = {key: name for key, name in found.items() if key in values or key == "cluster"}
    return Gathered(points=Points(**values, cluster=labels), columns=read, data_unit=unit)


def _names(table: Table) -> list[str]:
    if isinstance(table, Mapping):
        return [str(name) for name in table]
    if isinstance(table, str) or not (hasattr(table, "columns") and hasattr(table, "__getitem__")):
        raise FitInputError(
            f"cannot fit {type(table).__name__}: give Points, a polars or pandas frame, or a dict of columns; a file is"
            " read by polars.read_csv, or by prx_scale.sources.load as the command line does"
        )
    return [str(name) for name in table.columns]


def _find(names: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    for key, name in chosen.items():
        if key not in SYNONYMS:
            raise FitInputError(f"columns: '{key}' is not a column of a fit; valid: {', '.join(SYNONYMS)}")
        if name not in names:
            raise FitInputError(f"columns: {key} is to be '{name}', which the table lacks; {_nearest(name, names)}")
    guesses = {key: candidates(names, key) for key in SYNONYMS}
    found = {key: chosen.get(key) or next(iter(guesses[key]), "") for key in SYNONYMS}
    found = {key: name for key, name in found.items() if name}
    if "loss" not in found:
        raise FitInputError(
            f"no column of losses (looked for {', '.join(SYNONYMS['loss'])}): name it with columns={{'loss': ...}};"
            f" {_nearest('loss', names)}"
        )
    return found


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names)}"


def _numbers(column: Any, name: str, key: str, *, needed: bool) -> FloatArray | None:
    """A column as numbers; None for a guess that holds none, where the fit can do without it."""
    try:
        # As a list, because polars has whole numbers of 128 bits, which FLOPs need and numpy lacks.
        listed: Any = column.to_list() if hasattr(column, "to_list") else column
        numbers = np.array(listed, dtype=object).astype(np.float64)
    except (TypeError, ValueError) as error:
        if not needed:
            return None
        raise FitInputError(f"column '{name}' ({key}) holds other than numbers: {error}") from error
    if not needed and not (np.isfinite(numbers) & (numbers > 0)).all():
        return None
    return numbers
