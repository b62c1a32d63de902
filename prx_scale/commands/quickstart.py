"""`prx-scale quickstart`: the whole chain on the embedded dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Train a small depth ladder on the embedded dataset, evaluate, fit, predict the next depth, check, and report.

    Everything is real and small: about ten minutes on two cores. Ctrl-C stops cleanly; the same command goes
    on without redoing finished runs.

    Example: prx-scale quickstart

    Example: prx-scale quickstart --smoke --out /tmp/smoke
    """

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Study folder; by default quickstart, or quickstart-smoke, in the current folder."""
    smoke: bool = False
    """The same chain, shortened to under two minutes: it shows that everything works, and its numbers mean little."""

    def run(self) -> int:
        """Run the chain.

        Raises:
            InputError: the folder holds another study, or training is not installed.
        """

        from prx_scale.commands.text import plain_console
        from prx_scale.quickstart.chain import prepare, run_chain

        folder = self.out or Path("quickstart-smoke" if self.smoke else "quickstart")
        return run_chain(prepare(folder, self.smoke), plain_console())
