"""The command line: its verbs, and what happens to an error. Heavy imports happen inside a verb."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from prx_scale.commands.evaluate import Evaluate
from prx_scale.commands.fit import Fit
from prx_scale.commands.quickstart import Quickstart
from prx_scale.commands.report import Report
from prx_scale.commands.status import Status
from prx_scale.commands.sweep import Sweep
from prx_scale.commands.train import Train
from prx_scale.errors import InputError

Verb = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)

DESCRIPTION = "Scaling laws of diffusion transformers: train a depth ladder, fit it, predict the next run, report it."
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def main() -> None:
    """Run the verb on the command line and exit with its code: 2 for bad input, 130 when interrupted."""
    verb = tyro.cli(Verb, prog="prx-scale", description=DESCRIPTION, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        code = verb.run()
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        code = EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchtitan"):
            raise
        message = f"this verb trains or samples and needs {error.name}: pip install 'prx-scale[train]'"
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), message))
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)
