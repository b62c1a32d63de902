"""A source that has been opened: its columns are known, its rows are read when it is known which are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prx_scale.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.study import FitTable

LINE = "__line__"
"""The column of line numbers (row numbers where there are no lines), for messages."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of one source, not read yet where it is a file.

    Attributes:
        name: what messages call it.
        rows: the table, with the column ``LINE``.
        names: its columns without that one.
        defaults: our column to the source's, for sources whose columns are known.
        log: rows are what a trainer logged at a step, not all of it at every step.
        notices: what was assumed, in sentences.
        n_rows: rows before anything was left out; None to count them.
        dropped: (reason, count) of what was left out already.
        fit: the [fit] table of a study.
    """

    name: str
    rows: pl.LazyFrame
    names: tuple[str, ...]
    defaults: dict[str, str] = field(default_factory=dict[str, str])
    log: bool = False
    notices: tuple[str, ...] = ()
    n_rows: int | None = None
    dropped: tuple[tuple[str, int], ...] = ()
    fit: FitTable | None = None

    def collect(self, names: Iterable[str]) -> pl.DataFrame:
        """Read some columns, and no others.

        Raises:
            InputError: the file is damaged.
        """
        import polars as pl

        wanted = [LINE, *(name for name in dict.fromkeys(names) if name in self.names)]
        try:
            return self.rows.select(wanted).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"{self.name}: not a readable file: {first}") from error
