"""What the readers of trainers' logs share: runs of scalars by step, as one sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prx_scale.errors import InputError
from prx_scale.sources.sheet import LINE, Sheet


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """One run as its trainer logged it.

    Attributes:
        name: of the run.
        steps: step to the scalars that were logged at it.
        config: what holds for the whole run, such as its number of parameters.
        rewritten: values that were logged again for the same step, as a resumed run does; the later one counts.
        torn: the log ends in the middle of a record, as that of a run that is going on or was killed.
    """

    name: str
    steps: Mapping[int, Mapping[str, float]]
    config: Mapping[str, Any]
    rewritten: int = 0
    torn: bool = False


def as_sheet(source: str, runs: Sequence[LoggedRun]) -> Sheet:
    """One row a run and step, with a column for every scalar and every entry of a configuration.

    Raises:
        InputError: nothing was logged.
    """
    import polars as pl

    scalars = sorted({name for run in runs for values in run.steps.values() for name in values})
    settings = sorted({name for run in runs for name in run.config} - {*scalars, "run", "step"})
    if not scalars:
        raise InputError(f"{source}: {len(runs)} runs have logged no scalars")
    labels = unique_names([run.name for run in runs])
    frames: list[pl.DataFrame] = []
    for label, run in zip(labels, runs, strict=True):
        steps = sorted(run.steps)
        frame = pl.DataFrame(
            {"run": [label] * len(steps), "step": steps}
            | {name: [run.steps[step].get(name) for step in steps] for name in scalars},
            schema={"run": pl.String, "step": pl.Int64, **dict.fromkeys(scalars, pl.Float64)},
        )
        texts = {name: None if (value := run.config.get(name)) is None else str(value) for name in settings}
        frames.append(frame.with_columns(pl.lit(text, dtype=pl.String).alias(name) for name, text in texts.items()))
    rows = pl.concat(frames).with_row_index(LINE, offset=1)
    return Sheet(
        name=source,
        rows=rows.lazy(),
        names=tuple(name for name in rows.columns if name != LINE),
        log=True,
        notices=tuple(_notices(source, runs)),
    )


def _notices(source: str, runs: Sequence[LoggedRun]) -> list[str]:
    notices: list[str] = []
    if again := sum(run.rewritten for run in runs):
        notices.append(f"{source}: {again} values were logged again for the same step; the later ones count")
    if torn := [run.name for run in runs if run.torn]:
        notices.append(f"{source}: the log of {', '.join(torn)} ends in the middle of a record, which is left out")
    return notices


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, keys joined by dots; lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        elif not isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}"] = value
    return flat


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, numbered where several are the same."""
    seen: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return unique
