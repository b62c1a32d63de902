"""``--runs-table``: what holds for a whole run, for logs that record only what changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prx_scale.errors import InputError
from prx_scale.sources.columns import SYNONYMS
from prx_scale.sources.sheet import LINE, Sheet
from prx_scale.sources.tables import read_table

if TYPE_CHECKING:
    import polars as pl

_KEYS = (*SYNONYMS["cluster"], "name", "Name")


def with_runs_table(sheet: Sheet, path: Path, run: str | None) -> Sheet:
    """Add the columns of a table with one row a run to all rows of that run.

    Args:
        sheet: the source.
        path: the table.
        run: the sheet's column that names the run.

    Raises:
        InputError: the source does not say which run a row is of, the table has no column of names or two rows of one
            run, or a run is not in it.
    """
    import polars as pl

    if run is None:
        raise InputError(f"{sheet.name}: --runs-table needs a column that names the run; name it with --cluster")
    table = read_table(path).drop(LINE)
    key = next((name for name in (run, *_KEYS) if name in table.columns), None)
    if key is None:
        raise InputError(f"{path}: no column of run names (looked for {', '.join(dict.fromkeys((run, *_KEYS)))})")
    table = table.with_columns(pl.col(key).cast(pl.String).str.strip_chars())
    if twice := table.filter(pl.col(key).is_duplicated())[key].to_list():
        raise InputError(f"{path}: run '{twice[0]}' has {twice.count(twice[0])} rows; give one row a run")
    both = [name for name in table.columns if name in sheet.names and name != key]
    rows = sheet.rows.drop(both).with_columns(pl.col(run).cast(pl.String))
    _check_known(sheet, rows.select(pl.col(run).unique()).collect()[run].drop_nulls(), table[key], path)
    joined = rows.join(table.rename({key: run}).lazy(), on=run, how="left", maintain_order="left")
    notice = f"{path}: its {', '.join(both)} replace those of {sheet.name}"
    names = tuple(name for name in joined.collect_schema().names() if name != LINE)
    notices = (*sheet.notices, notice) if both else sheet.notices
    return Sheet(
        name=sheet.name, rows=joined, names=names, defaults=sheet.defaults, log=sheet.log, notices=notices,
        n_rows=sheet.n_rows, dropped=sheet.dropped, fit=sheet.fit,
    )  # fmt: skip


def _check_known(sheet: Sheet, runs: pl.Series, known: pl.Series, path: Path) -> None:
    unknown = sorted(set(runs.to_list()) - set(known.to_list()))
    if unknown:
        listed = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        some = ", ".join(known.to_list()[:5])
        raise InputError(f"{path}: has no row for {len(unknown)} runs of {sheet.name}: {listed}. It holds {some}")
