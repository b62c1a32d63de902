"""`prx-scale report`: fit a study and write its page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prx_scale.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Report:
    """Fit the runs of a study and write one HTML page that opens offline; what is missing is said on the page.

    Example: prx-scale report quickstart --out quickstart.html
    """

    study_dir: tyro.conf.Positional[Path]
    """The study folder."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The page; by default report.html in the study folder."""

    def run(self) -> int:
        """Write the page.

        Raises:
            InputError: there are no runs here, or the study file is gone.
        """

        from prx_scale import study, studyfit
        from prx_scale.commands.text import plain_console
        from prx_scale.runs import load_runs
        from reports.study_page import write_study_report

        console = plain_console()
        load_runs(self.study_dir)
        loaded = study.load(self.study_dir / "study.toml", self.study_dir)
        try:
            sentence = studyfit.refresh(loaded)
            if sentence:
                console.print(sentence, soft_wrap=True)
        except InputError as error:
            console.print(f"no fit: {error}", soft_wrap=True)
        page = write_study_report(self.study_dir, self.out, [run.id for run in loaded.runs])
        console.print(str(page), soft_wrap=True)
        return 0
