"""The page of a study, for ``prx-scale report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prx_scale.runs.clock import now
from reports import units
from reports.page import Page
from reports.render import write_page
from reports.sections.evaluation import evaluation_section
from reports.sections.fit import fit_section
from reports.sections.learning_rate import learning_rate_sections
from reports.sections.overview import about_section, summary_section
from reports.sections.prediction import prediction_section
from reports.sections.provenance import provenance_section
from reports.sections.runs import runs_section
from reports.sections.samples import samples_section
from reports.sections.training import training_section
from reports.study_data import load_study

FIRST = (about_section, summary_section, training_section)
REST = (
    fit_section,
    prediction_section,
    evaluation_section,
    samples_section,
    runs_section,
    provenance_section,
)


def build_study_page(study_dir: Path, planned: Sequence[str] = ()) -> Page:
    """The page of a study as data.

    Args:
        study_dir: the study's folder. A study still under way gives a page that says what is missing.
        planned: ids of all runs of the study, so that those that never started are named.

    Raises:
        InputError: the folder holds no run, or a run record is damaged.
    """
    study = replace(load_study(study_dir), planned=tuple(planned))
    updated = max(run.updated for run in study.runs)
    return Page(
        title=f"Scaling study: {study.name}",
        subtitle=f"{units.plural(len(study.runs), 'run')}, last updated {units.moment(updated)}.",
        sections=(
            *(section(study) for section in FIRST),
            *learning_rate_sections(study),
            *(section(study) for section in REST),
        ),
        footer=f"Written by prx-scale on {units.moment(now())}. This file is complete in itself and opens offline.",
    )


def write_study_report(study_dir: Path, out: Path | None = None, planned: Sequence[str] = ()) -> Path:
    """Write the page of a study, and its numbers as JSON beside it.

    Args:
        study_dir: the study's folder.
        out: the HTML file; by default ``report.html`` in the study's folder.
        planned: ids of all runs of the study, so that those that never started are named.

    Returns:
        The path of the HTML file.

    Raises:
        InputError: the folder holds no run, or a run record is damaged.
    """
    return write_page(build_study_page(study_dir, planned), out or study_dir / "report.html")
