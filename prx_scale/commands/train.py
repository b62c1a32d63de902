"""`prx-scale train`: one run, in this process."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from prx_scale.commands import exits
from prx_scale.commands.starting import tell_starts
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.attempts import Job
    from prx_scale.runs.info import State
    from prx_scale.study import Study


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one run of a study in this process, or go on with it where it stopped.

    Under torchrun the run is spread over all its processes. Ctrl-C saves the state after the step under way; the same
    command resumes. Exit code: 0 done, 1 failed (the loss was not finite, or an error that would come again), 2 bad
    input, 75 the same command may go well (another process died, a connection failed), 130 interrupted.

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
        from prx_scale import stopping

        stopping.listen()  # before all that takes long to import
        try:
            from prx_scale import study
            from prx_scale.commands.children import end_with_parent

            end_with_parent()
            return _trained(study.load(self.study, self.out), self.run_id, None)
        finally:
            stopping.ignore()


def train_in_job(study_folder: Path, run_id: str, job: Job) -> int:
    """Train a run as one process of a cluster job, whose environment says which (RANK, WORLD_SIZE, MASTER_ADDR ...).

    Args:
        study_folder: has the study.toml.
        run_id: of the run.
        job: that this process works for.

    Returns:
        The exit code that the process should end with; errors have been printed.
    """
    from rich.console import Console

    from prx_scale import stopping

    stopping.listen()
    try:
        from prx_scale import study

        return _trained(study.load(study_folder), run_id, job)
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        return exits.BAD_INPUT
    except Exception:
        traceback.print_exc()
        return exits.FAILED
    finally:
        stopping.ignore()
        sys.stdout.flush()
        sys.stderr.flush()


def _trained(loaded: Study, run_id: str | None, job: Job | None) -> int:
    from prx_scale import study
    from prx_scale.commands.children import quiet_threads
    from prx_scale.commands.progress import one_run
    from prx_scale.commands.text import plain_console

    quiet_threads()
    run = loaded.run(run_id)
    folder = loaded.folder / "runs" / run.id
    first = os.environ.get("RANK", "0") == "0"
    tell_starts([run], loaded.file, loaded.folder, plain_console() if first else None)
    from prx_scale.training.run import train

    if first:
        study.keep_copy(loaded)
    with one_run(run) if first else nullcontext() as watcher:
        state, code = _outcome(lambda: train(run, folder, watcher, job))
    if first and state is not None:
        _say(state, folder)
    return code


def _outcome(training: Callable[[], State]) -> tuple[State | None, int]:
    """How the run stands, where training came to an end without an error, and the exit code."""
    from prx_scale import stopping
    from prx_scale.owner import Superseded
    from prx_scale.runs.info import State
    from prx_scale.training.failures import kind_of

    try:
        state = training()
    except (InputError, KeyboardInterrupt):
        raise
    except Superseded as error:
        print(error, file=sys.stderr)
        return None, exits.FAILED
    except BaseException as error:
        traceback.print_exc()
        return None, kind_of(error, asked_to_stop=stopping.listen().number != 0).exit_code
    return state, {State.DONE: exits.DONE, State.FAILED: exits.FAILED}.get(state, exits.INTERRUPTED)


def _say(state: State, folder: Path) -> None:
    """One line on how the run stands."""
    from prx_scale.commands.text import plain_console
    from prx_scale.runs.info import State
    from prx_scale.runs.record import RunRecord

    info = RunRecord(folder).read()
    reason = f": {info.reason}" if info is not None and info.reason else ""
    hint = f"; prx-scale retry {folder.parent.parent} tries it again" if state is State.FAILED else ""
    plain_console().print(f"{folder.name} is {state.value}{reason}{hint}", soft_wrap=True, markup=False)
