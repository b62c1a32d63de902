"""`prx-scale status`: how the runs of a study stand."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.commands import exits
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from slurm.status import StudyStatus

LEAST_SECONDS = 2.0
"""Between two questions to a controller that others need too."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show how the runs of a study stand, from their records and jobs, and why some failed; safe while they run.

    Example: prx-scale status quickstart

    Example: prx-scale status depth-sweep --watch --every 30
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    watch: bool = False
    """Go on showing it until nothing runs or waits; Ctrl-C ends it, not the runs."""
    every: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 10.0
    """With --watch, how long between looks; at least 2."""
    json: bool = False
    """Print JSON instead of a table."""
    no_slurm: bool = False
    """Do not ask SLURM: runs stand as their records say."""

    def run(self) -> int:
        """Print the table.

        Raises:
            InputError: there are no runs here, a record is damaged, or options that exclude each other.
        """
        if self.every < LEAST_SECONDS:
            raise InputError(f"--every: {self.every:g} is too small; at least {LEAST_SECONDS:g} seconds")
        if self.json and self.watch:
            raise InputError("--json: prints once; leave --watch out")
        if self.json:
            self._print_json()
            return exits.DONE
        from prx_scale.commands.text import plain_console

        console = plain_console()
        return self._watch(console) if self.watch else self._print(console)

    def _look(self) -> StudyStatus:
        from slurm.status import study_status

        return study_status(self.study_dir, ask_slurm=not self.no_slurm)

    def _print_json(self) -> None:
        import json

        from slurm.failures import failure_groups

        status = self._look()
        content = {
            "runs": [row.to_json() for row in status.runs],
            "following": {each.kind.value: dict(each.counts) for each in status.following},
            "failures": [group.to_json() for group in failure_groups(self.study_dir, status)],
            "warning": status.warning,
        }
        sys.stdout.write(json.dumps(content, indent=1) + "\n")

    def _print(self, console: Console) -> int:
        status = self._look()
        _write(self._page(status, console.width if console.is_terminal else None, None), console)
        return exits.DONE

    def _page(self, status: StudyStatus, width: int | None, height: int | None) -> list[Text]:
        """All lines; where the height is given, only as many runs as leave room for what is below them."""
        from rich.text import Text

        from prx_scale.commands.status_output import failures, of_interest, summary, table
        from slurm.failures import failure_groups

        below = [Text(), *summary(status), *failures(failure_groups(self.study_dir, status))]
        most = len(status.runs) if height is None else max(3, height - len(below) - 3)
        rows, hidden = of_interest(status.runs, most)
        more = [Text(f"and {hidden} more", style="dim")] if hidden else []
        return [*table(rows, width), *more, *below]

    def _watch(self, console: Console) -> int:
        if not console.is_terminal:
            return self._watch_by_lines(console)
        from rich.console import Group
        from rich.live import Live

        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                status = self._look()
                live.update(Group(*self._page(status, console.width, console.height)), refresh=True)
                if self._over(status):
                    return exits.DONE
                time.sleep(self.every)

    def _over(self, status: StudyStatus) -> bool:
        """Whether nothing runs or waits, and not just for the moment in which a launcher starts the next run."""
        if status.active:
            return False
        time.sleep(1.0)
        return not self._look().active

    def _watch_by_lines(self, console: Console) -> int:
        """Where there is no terminal: a line whenever the counts change, and the table at the end."""
        from prx_scale.commands.status_output import summary

        said = ""
        while True:
            status = self._look()
            words = "; ".join(line.plain for line in summary(status))
            if self._over(status):
                _write(self._page(status, None, None), console)
                return exits.DONE
            if words != said:
                said = words
                console.print(f"{time.strftime('%H:%M:%S')} {words}", soft_wrap=True, markup=False)
            time.sleep(self.every)


def _write(lines: list[Text], console: Console) -> None:
    from rich.text import Text

    console.print(Text("\n").join(lines), soft_wrap=True)
