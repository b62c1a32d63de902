"""`prx-scale train`: one run, in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.commands import exits
from prx_scale.commands.starting import tell_starts

if TYPE_CHECKING:
    from prx_scale.runs import State


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one run of a study in this process, or go on with it where it stopped.

    Under torchrun the run is spread over all its processes. Ctrl-C saves the state after the step under way; the same
    command resumes. Exit code: 0 done, 1 failed (the loss was not finite), 2 bad input, 130 interrupted.

    Example: prx-scale train study.toml --run d3-s0

    Example: torchrun --nproc-per-node 2 -m -- prx_scale train study.toml --run d3-s0
    """

    study: tyro.conf.Positional[Path]
    """A study file, or a study folder that has a study.toml."""
    run_id: Annotated[str | None, tyro.conf.arg(name="run", metavar="ID")] = None
    """The run's id, or its beginning; not needed where the study has a single run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Study folder to write to; by default that of study.toml, or one beside the file with the study's name."""

    def run(self) -> int:
        """Train; the exit code says how it ended.

        Raises:
            InputError: the study, the run or the number of processes cannot be right.
        """
        from prx_scale import study
        from prx_scale.commands.children import end_with_parent, quiet_threads
        from prx_scale.commands.progress import one_run
        from prx_scale.commands.text import plain_console

        end_with_parent()
        quiet_threads()
        loaded = study.load(self.study, self.out)
        run = loaded.run(self.run_id)
        from prx_scale.runs import State
        from prx_scale.training.run import train

        folder = loaded.folder / "runs" / run.id
        first = os.environ.get("RANK", "0") == "0"
        tell_starts([run], loaded.file, loaded.folder, plain_console() if first else None)
        if first:
            study.keep_copy(loaded)
            with one_run(run) as watcher:
                state = train(run, folder, watcher)
            _say(state, folder)
        else:
            state = train(run, folder)
        return {State.DONE: exits.DONE, State.FAILED: exits.FAILED}.get(state, exits.INTERRUPTED)


def _say(state: State, folder: Path) -> None:
    """One line on how the run stands."""
    from prx_scale.commands.text import plain_console
    from prx_scale.runs import RunRecord, State

    info = RunRecord(folder).read()
    reason = f": {info.reason}" if info is not None and info.reason else ""
    hint = f"; remove {folder} to try it again" if state is State.FAILED else ""
    plain_console().print(f"{folder.name} is {state.value}{reason}{hint}", soft_wrap=True)
