"""The command line: its verbs, and what happens to an error. Heavy imports happen inside a verb."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from rich.text import Text

from prx_scale.commands import exits
from prx_scale.commands.allocate import Allocate
from prx_scale.commands.backtest import Backtest
from prx_scale.commands.cancel import Cancel
from prx_scale.commands.compare import Compare
from prx_scale.commands.coord_check import CoordCheck
from prx_scale.commands.correlate import Correlate
from prx_scale.commands.curve import Curve
from prx_scale.commands.downstream import Downstream
from prx_scale.commands.encode import Encode
from prx_scale.commands.evaluate import Evaluate
from prx_scale.commands.export import Export
from prx_scale.commands.filter import Filter
from prx_scale.commands.fit import Fit
from prx_scale.commands.frontier import Frontier
from prx_scale.commands.import_weights import ImportWeights
from prx_scale.commands.logs import Logs
from prx_scale.commands.plan import PlanVerb
from prx_scale.commands.quickstart import Quickstart
from prx_scale.commands.rank import Rank
from prx_scale.commands.report import Report
from prx_scale.commands.retry import Retry
from prx_scale.commands.status import Status
from prx_scale.commands.suggest import Suggest
from prx_scale.commands.sweep import Sweep
from prx_scale.commands.train import Train
from prx_scale.errors import InputError

VERBS: dict[str, type[Any]] = {
    "quickstart": Quickstart,
    "encode": Encode,
    "plan": PlanVerb,
    "filter": Filter,
    "train": Train,
    "sweep": Sweep,
    "retry": Retry,
    "status": Status,
    "logs": Logs,
    "cancel": Cancel,
    "evaluate": Evaluate,
    "coord-check": CoordCheck,
    "export": Export,
    "import-weights": ImportWeights,
    "fit": Fit,
    "backtest": Backtest,
    "compare": Compare,
    "correlate": Correlate,
    "downstream": Downstream,
    "curve": Curve,
    "rank": Rank,
    "frontier": Frontier,
    "allocate": Allocate,
    "suggest": Suggest,
    "report": Report,
}

LAUNCHERS = ("sweep", "retry")
"""Verbs whose dry run can also ask the scheduler."""

REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
"""What a file system answers where a path is wrong or full: its owner can mend that, and needs no traceback."""

DESCRIPTION = "Scaling laws of diffusion transformers: train a depth ladder, fit it, predict the next run, report it."


def parse(words: Sequence[str]) -> Any:
    """The verb that a command line asks for; exits with 0 after help and with 2 where the words make no sense.

    Args:
        words: the command line without the program's name.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    if words and words[0] in LAUNCHERS:
        words = ["--dry-run=jobs" if word == "--dry-run" else word for word in words]
    if words and words[0] in VERBS:  # a parser of this verb alone: building those of all takes a tenth of a second
        return tyro.cli(VERBS[words[0]], args=words[1:], prog=f"prx-scale {words[0]}", config=config)
    verbs = tuple(
        Annotated[cls, tyro.conf.subcommand(name, description=_first_sentence(cls))] for name, cls in VERBS.items()
    )
    return tyro.cli(Union[verbs], args=words, prog="prx-scale", description=DESCRIPTION, config=config)  # pyright: ignore  # noqa: UP007


def _first_sentence(cls: type[Any]) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


def _parsed(words: Sequence[str]) -> Any:
    try:
        try:
            return parse(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the help has seen enough, as `head` has; what is left of it must not fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exits.FAILED)


def main() -> None:
    """Run the verb on the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a verb and say on the standard error what is wrong with its input.

    Args:
        words: the command line without the program's name.

    Returns:
        The exit code: 2 for bad input, 130 when interrupted.
    """
    verb = _parsed(words)
    try:
        return verb.run()
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        return exits.BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchtitan"):
            raise
        message = f"this verb trains, samples or traces and needs {error.name}: pip install 'prx-scale[train]'"
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), message))
        return exits.BAD_INPUT
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        where = f"{error.filename}: " if error.filename else ""
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), f"{where}{error.strerror}"))
        return exits.BAD_INPUT
    except KeyboardInterrupt:
        return exits.INTERRUPTED
