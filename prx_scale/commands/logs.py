"""`prx-scale logs`: what the processes of a run or of a job have printed, and go on printing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prx_scale.commands import exits
from prx_scale.errors import InputError, nearest

if TYPE_CHECKING:
    from slurm.follow import Follower, Heading
    from slurm.ledger import JobRecord

READ_SECONDS = 0.5
ASK_SECONDS = 10.0
"""Between two questions to SLURM about the job."""


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Show what the processes of a run have printed: of its last job on SLURM, or of its process on this machine.

    A job that is started again goes on writing to the same logs, with a line at each start.

    Example: prx-scale logs depth-sweep/runs/d3-s0-0a1b2c3d --follow

    Example: prx-scale logs d3-s0 --study depth-sweep --all-ranks --stream err

    Example: prx-scale logs --study depth-sweep --job report
    """

    run_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(name="run", metavar="RUN")] = ""
    """A run's folder, or its id or the beginning of it; not needed with --job report."""
    study: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path(".")
    """The study folder, where RUN is an id."""
    job: Literal["train", "evaluate", "report"] = "train"
    """Which job of the run; `report` is the study's."""
    stream: Literal["both", "out", "err"] = "both"
    """Standard output, standard error or both; a process of this machine has both in one."""
    rank: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Which process."""
    all_ranks: bool = False
    """All processes."""
    lines: Annotated[int, tyro.conf.arg(metavar="N")] = 40
    """How many of the last lines of each log."""
    follow: bool = False
    """Go on printing what is added, over restarts, until the job or process has ended."""

    def run(self) -> int:
        """Print.

        Raises:
            InputError: no such study, run, job or process.
        """
        source = self._source()
        try:
            return source.follow() if self.follow else source.show()
        except BrokenPipeError:  # whoever read it, as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return exits.DONE

    def _source(self) -> _Source:
        from slurm.follow import Follower, Heading

        study, run = self._place()
        source = _Source(study=study, run=run, verb=self, follower=Follower(self.lines), heading=Heading(study))
        source.check()
        return source

    def _place(self) -> tuple[Path, str | None]:
        """The study folder and the run's id."""
        if self.job == "report":
            folder = Path(self.run_id) if self.run_id and Path(self.run_id).is_dir() else self.study
            return folder, None
        if not self.run_id:
            raise InputError("logs: which run? Give its folder, or its id with --study DIR")
        folder = Path(self.run_id)
        if folder.is_dir() and folder.resolve().parent.name == "runs":
            return folder.resolve().parents[1], folder.resolve().name
        return self.study, self._by_beginning()

    def _by_beginning(self) -> str:
        from slurm.status import study_status

        known = [row.run for row in study_status(self.study, ask_slurm=False).runs]
        found = [run for run in known if run.startswith(self.run_id)]
        if self.run_id in found:
            return self.run_id
        if len(found) == 1:
            return found[0]
        hint = f"it could be {', '.join(found[:5])}" if found else nearest(self.run_id, known)
        raise InputError(f"{self.study}: no single run '{self.run_id}'; {hint}")


@dataclass
class _Source:
    """Where the lines come from."""

    study: Path
    run: str | None
    verb: Logs
    follower: Follower
    heading: Heading
    told: set[str] = field(default_factory=set[str])

    def record(self) -> JobRecord | None:
        """The run's last job of the kind asked for; another one after a retry."""
        from slurm.ledger import Kind, read_ledger

        return read_ledger(self.study).latest(Kind(self.verb.job), self.run)

    def check(self) -> None:
        """Refuse what can never have logs.

        Raises:
            InputError: no such process or job.
        """
        record = self.record()
        if record is None and self.verb.job != "train":
            raise InputError(
                f"{self.study}: no {self.verb.job} job on SLURM" + (f" for {self.run}" if self.run else "")
            )
        world = record.nodes * record.ntasks_per_node if record else None
        if world is not None and not self.verb.all_ranks and not 0 <= self.verb.rank < world:
            raise InputError(
                f"--rank: {self.verb.rank}; job {record.job if record else ''} has processes 0 to {world - 1}"
            )
        if record is None and not self.files():
            raise InputError(f"{self.study}: no logs of {self.run}: it has not been started")

    def files(self) -> list[Path]:
        """The logs there are now."""
        from slurm.logs import chosen_logs

        ranks = None if self.verb.all_ranks else [self.verb.rank]
        record = self.record()
        found = chosen_logs(self.study, self.run, record, ranks)
        # A process of this machine has both streams in one file, which is called `out`.
        split = record is not None and record.executor.value == "slurm"
        return [file.path for file in found if not split or self.verb.stream in ("both", file.stream)]

    def show(self) -> int:
        """Print the last lines once."""
        files = self.files()
        self.print(files)
        if not files:
            self.tell(self.why_none())
        return exits.DONE

    def follow(self) -> int:
        """Print until the job has ended and all of it is printed."""
        asked, ended = -ASK_SECONDS, False
        while True:
            due = not ended and time.monotonic() - asked >= ASK_SECONDS
            if due:
                asked, ended = time.monotonic(), self.ended()
            files = self.files()
            quiet = not self.print(files)
            if due and not files:
                self.tell(self.why_none())
            if ended and quiet:
                self.write(self.follower.rest())
                return exits.DONE
            time.sleep(READ_SECONDS)

    def print(self, files: list[Path]) -> bool:
        """Print what is new; returns whether there was anything."""
        return self.write(self.follower.new(files), several=len(files) > 1)

    def write(self, parts: Iterable[tuple[Path, str]], *, several: bool = False) -> bool:
        """Print, with a heading where the file changes; returns whether there was anything."""
        self.heading.needed = self.heading.needed or several
        some = False
        for path, text in parts:
            some = True
            sys.stdout.write(self.heading.before(path) + text)
        sys.stdout.flush()
        return some

    def tell(self, words: str) -> None:
        """Say something beside the logs, once."""
        if words and words not in self.told:
            self.told.add(words)
            print(words, file=sys.stderr, flush=True)

    def why_none(self) -> str:
        """Why there are no logs."""
        from slurm.controller import Phase, job_statuses
        from slurm.standing import waits_for

        record = self.record()
        if record is None or record.executor.value != "slurm":
            return "no log yet"
        try:
            job = job_statuses([record.job])[record.job]
        except InputError as error:
            return f"no log yet; {error}"
        if job.phase is Phase.WAITING:
            return f"job {record.job} waits, so there is no log yet: {waits_for(job)}"
        return f"job {record.job} is {job.state}, and left no log" if job.phase is Phase.ENDED else "no log yet"

    def ended(self) -> bool:
        """Whether nothing more will be printed."""
        from prx_scale.locks import is_held
        from slurm.controller import Phase, job_statuses
        from slurm.processes import parse_process, works_on

        record = self.record()
        if record and record.executor.value == "slurm":
            try:
                return job_statuses([record.job])[record.job].phase is Phase.ENDED
            except InputError as error:
                self.tell(str(error))
                return False
        process = parse_process(record.job) if record else None
        run = self.run or ""
        if process and process.here and works_on(process, run):
            return False
        return not is_held(self.study / "runs" / run)
