"""The writer of a run's record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError
from prx_scale.runs.clock import now
from prx_scale.runs.files import append_lines, intact_rows, read_json, write_atomically
from prx_scale.runs.info import RunInfo
from prx_scale.runs.rows import TABLE_OF, TABLES, Row, Table


class RunRecord:
    """Writer of one run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def info_path(self) -> Path:
        """run.json."""
        return self.folder / "run.json"

    def read(self) -> RunInfo | None:
        """The run's run.json, or None where the run has not been started."""
        if not self.info_path.exists():
            return None
        return RunInfo.from_json(read_json(self.info_path), self.folder)

    def write(self, info: RunInfo) -> None:
        """Replace run.json."""
        write_atomically(self.info_path, json.dumps(info.to_json(), indent=1) + "\n")

    def update(self, **changes: Any) -> RunInfo:
        """Change some fields of run.json.

        Args:
            **changes: fields of `RunInfo`.

        Returns:
            The new content.

        Raises:
            InputError: the run has no run.json yet.
        """
        info = self.read()
        if info is None:
            raise InputError(f"{self.info_path}: missing; the run has not been started")
        info = replace(info, updated=now(), **changes)
        self.write(info)
        return info

    def append(self, row: Row) -> None:
        """Add one row to the table that it belongs to, in a single write."""
        self.append_all([row])

    def append_all(self, rows: Sequence[Row]) -> None:
        """Add rows of one table in a single write, so that a kill leaves all of them or a torn tail."""
        if not rows:
            return
        append_lines(self.path(TABLE_OF[type(rows[0])]), [asdict(row) for row in rows])

    def path(self, table: Table) -> Path:
        """The file of a table."""
        return self.folder / f"{table}.jsonl"

    def drop_after(self, step: int) -> None:
        """Drop the rows past a restored step, and a torn tail, from every table.

        Args:
            step: the last step whose rows stay.
        """
        for table in TABLES:
            path = self.path(table)
            if path.exists():
                kept = [row for row in intact_rows(path, quiet=True) if row["step"] <= step]
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
