"""`prx-scale status`: how the runs of a study stand."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show how the runs of a study stand, from their records; safe while they are running.

    Example: prx-scale status quickstart
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Print the table.

        Raises:
            InputError: there are no runs here, or a record is damaged.
        """
        from slurm.status import study_status

        rows = study_status(self.study_dir)
        if self.json:
            import json

            sys.stdout.write(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
            return 0
        from rich.table import Table

        from prx_scale.commands.text import duration, number, plain_console

        table = Table(box=None, pad_edge=False)
        for heading in ("run", "depth", "params", "state", "step", "loss", "images/s", "left", "reason"):
            table.add_column(heading, justify="left" if heading in ("run", "state", "reason") else "right")
        for row in rows:
            table.add_row(
                row.run,
                str(row.depth),
                "" if row.params is None else number(row.params),
                row.state,
                f"{row.step}/{row.steps}",
                "" if row.loss is None else f"{row.loss:.4f}",
                "" if row.samples_per_second is None else f"{row.samples_per_second:,.0f}",
                duration(row.seconds_left),
                row.reason or "",
            )
        plain_console().print(table)
        return 0
