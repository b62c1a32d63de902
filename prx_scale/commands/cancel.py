"""`prx-scale cancel`: end what a study has waiting or running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.commands import exits

if TYPE_CHECKING:
    from rich.console import Console

    from slurm.ledger import JobRecord
    from slurm.plan import Jobs
    from slurm.processes import Process


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Cancel the jobs of a study, or of some of its runs, with the evaluations that follow; nothing recorded is lost.

    On SLURM with scancel; processes of this machine are asked to save their state and end. `prx-scale sweep` goes on
    from what there is. Exit code: 0, or 1 where something could not be ended.

    Example: prx-scale cancel depth-sweep

    Example: prx-scale cancel depth-sweep --run d38-s0
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    runs: Annotated[tuple[str, ...], tyro.conf.arg(name="run", metavar="ID ...")] = ()
    """Ids of runs, or their beginnings; all by default, and then also report and later launches."""

    def run(self) -> int:
        """Cancel, and say what.

        Raises:
            InputError: no such study or run, or SLURM does not answer or refuses.
        """
        from prx_scale.commands.text import plain_console
        from slurm.cancelling import cancel_here, chosen_runs
        from slurm.plan import jobs_of
        from slurm.status import study_status

        console = plain_console()
        known = [row.run for row in study_status(self.study_dir, ask_slurm=False).runs]
        runs = chosen_runs(self.runs, known, self.study_dir)
        jobs = self._without_launches(jobs_of(self.study_dir))
        cancelled = self._on_slurm(jobs, runs)
        jobless = [run for run in runs if run not in {record.run for record in cancelled}]
        asked, notes = cancel_here(self.study_dir, jobs, jobless, all_runs=not self.runs)
        _tell(cancelled, asked, notes, console)
        return exits.FAILED if notes else exits.DONE

    def _without_launches(self, jobs: Jobs) -> Jobs:
        """Of a whole study, first end what would submit more jobs while the others are cancelled."""
        from slurm.cancelling import active_jobs, cancel_on_slurm
        from slurm.ledger import Kind
        from slurm.plan import jobs_of

        launches = [record for record in active_jobs(jobs, None) if record.kind is Kind.LAUNCH]
        if self.runs or not launches:
            return jobs
        cancel_on_slurm(self.study_dir, launches)
        return jobs_of(self.study_dir)

    def _on_slurm(self, jobs: Jobs, runs: Sequence[str]) -> list[JobRecord]:
        from slurm.cancelling import active_jobs, cancel_on_slurm

        found = active_jobs(jobs, runs if self.runs else None)
        cancel_on_slurm(self.study_dir, found)
        return found


def _tell(
    cancelled: Sequence[JobRecord], asked: Sequence[tuple[str, Process]], notes: Sequence[str], console: Console
) -> None:
    from slurm.ledger import Kind

    for kind in Kind:
        jobs = [record for record in cancelled if record.kind is kind]
        if jobs:
            words = ", ".join(f"{record.run or 'the study'} (job {record.job})" for record in jobs[:4])
            more = f" and {len(jobs) - 4} more" if len(jobs) > 4 else ""
            console.print(f"{kind}: {len(jobs)} cancelled: {words}{more}", soft_wrap=True, markup=False)
    for run, process in asked:
        console.print(f"{run}: asked {process} to save its state and end", soft_wrap=True, markup=False)
    for note in notes:
        console.print(note, soft_wrap=True, markup=False)
    if not (cancelled or asked or notes):
        console.print("nothing waits or runs")
