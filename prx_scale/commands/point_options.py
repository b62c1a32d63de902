"""The options that say which points a verb works on and how sure its intervals are, shared by several verbs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class PointOptions:
    """Sources of points, and the intervals made from them."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """CSV, Parquet or JSONL files, study directories, TensorBoard log directories, or W&B run folders."""
    columns: Repeated = ()
    """Which column is what: params=n_params,loss=val/loss (keys: params, data, tokens, samples, loss, flops, steps,
    unique, stderr, cluster, weight); a number, or a product: params=1.3B,tokens=step*2M."""
    where: Repeated = ()
    """Keep rows that meet a condition: split=heldout, eval_set=c4_val, flops>=1e18. Repeat to combine."""
    cluster: str | None = None
    """Column whose rows belong together, usually the run, or row, or file. Default: the run column, if there is one."""
    runs_table: Path | None = None
    """Table with one row a run, for what a log does not say: params, tokens per step."""
    last: bool = False
    """Keep the last row of every run only."""
    thin: int | None = None
    """Keep at most so many rows of every run, evenly in the logarithm of its data."""
    drop_bad_rows: bool = False
    """Leave out rows that cannot be used or repeat a step of their run, and count them, instead of refusing them."""
    level: float | None = None
    """Level of the intervals. Default: the study's, else 0.8."""
    seed: int = 0
    """Seed of the resamples."""

    def load(self, by: Sequence[str] = ()) -> Loaded:
        """The points that the options name.

        Args:
            by: columns whose values name the group of every point.

        Raises:
            InputError: a source, column, value or condition that cannot be used.
        """
        from prx_scale import sources

        if self.last and self.thin is not None:
            raise InputError(f"--last keeps one row of every run and --thin {self.thin} more: give one of them")
        return sources.load(
            self.sources,
            sources.parse_columns(self.columns),
            self.where,
            self.cluster,
            by=by,
            runs_table=self.runs_table,
            drop_bad_rows=self.drop_bad_rows,
            thin=1 if self.last else self.thin,
        )

    def level_for(self, loaded: Loaded) -> float:
        """The level asked for, else that of the study, else 0.8."""
        if self.level is not None:
            return self.level
        return loaded.fit.level if loaded.fit else 0.8


def write_json(document: Mapping[str, Any], target: str | None) -> None:
    """Write a document to a file, to standard output where the target is ``-``, or nowhere where it is None."""
    import json

    from prx_scale.runs.files import write_atomically

    text = json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"
    if target == "-":
        sys.stdout.write(text)
    elif target is not None:
        write_atomically(Path(target), text)


def command_line(argv: list[str]) -> str:
    """The command as a shell would take it, the program without its folder."""
    import shlex

    return shlex.join([Path(argv[0]).name, *argv[1:]])
