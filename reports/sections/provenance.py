"""The section that says where every number came from, and how to make it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, cast

from prx_scale.runs.info import RunInfo
from reports import units
from reports.page import Block, Cell, Code, Column, Details, Prose, Section, Table, text_cell
from reports.sections.fit import fit_provenance
from reports.study_data import StudyData

ABSENT = "(not set)"


def provenance_section(study: StudyData) -> Section:
    """Configurations, versions, devices, times, samplers, the fit's sources, and the commands."""
    shared, own = split_configs(study.runs)
    blocks: list[Block] = [
        Prose(
            text="Every number on this page is read from the study's folder; the same numbers stand as JSON beside it."
        ),
        _commands(study),
        _origin_table(study),
        Details(
            summary="Configuration that all runs share",
            blocks=(Code(label="Resolved from study.toml", text=_lines(shared)),),
        ),
        *(_run_config(run, own[run.run]) for run in study.runs),
    ]
    sampling = _sampling_table(study)
    if sampling is not None:
        blocks.append(sampling)
    if study.fit is not None:
        blocks.append(fit_provenance(study.fit))
    return Section(key="provenance", title="Where the numbers came from", blocks=tuple(blocks))


def _commands(study: StudyData) -> Code:
    folder = shlex.quote(study.folder.as_posix())
    verbs = {
        "sweep": "trains what is missing; finished runs are kept",
        "evaluate": "samples and scores what has not been scored",
        "report": "fits again and writes this page",
    }
    lines = [f"prx-scale {f'{verb} {folder}':<{len(folder) + 10}}  # {what}" for verb, what in verbs.items()]
    return Code(label="How to regenerate it", text="\n".join(lines))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as dotted keys with JSON values."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return flat


def split_configs(runs: tuple[RunInfo, ...]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What all runs have in common, and by run what it has of its own."""
    flat = {run.run: flatten(run.config) for run in runs}
    keys = list(dict.fromkeys(key for config in flat.values() for key in config))
    shared = {key: flat[runs[0].run].get(key, ABSENT) for key in keys if len({c.get(key) for c in flat.values()}) == 1}
    own = {name: {key: config.get(key, ABSENT) for key in keys if key not in shared} for name, config in flat.items()}
    return shared, own


def _lines(config: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in config.items()) or "(nothing)"


def _run_config(run: RunInfo, own: Mapping[str, str]) -> Details:
    sizes = {"backbone": run.parameters.backbone, "embedding": run.parameters.embedding, **run.parameters.by_part}
    parts = "\n".join(f"{part} = {units.count(size)}" for part, size in sizes.items())
    blocks: list[Block] = [Code(label="Configuration of its own", text=_lines(own))]
    blocks.append(Code(label="Parameters by part", text=parts))
    return Details(summary=f"Configuration of {run.run}", blocks=tuple(blocks))


def _origin_table(study: StudyData) -> Table:
    names = ("Run", "Seed", "Commit", "Versions", "Device", "Processes", "Created", "Updated", "FLOPs a sample", "Time")
    numbers = ("Seed", "Processes", "FLOPs a sample", "Time")
    return Table(
        title="Code, machine and time of every run",
        columns=tuple(
            Column(label=name, numeric=name in numbers, wraps=name in ("Versions", "Device")) for name in names
        ),
        rows=tuple(_origin_row(run) for run in study.runs),
        note="Source: run.json. FLOPs of a sample: three forward passes, counted from the architecture.",
    )


def _origin_row(run: RunInfo) -> tuple[Cell, ...]:
    dirty = {True: " with local changes", False: "", None: ""}[run.dirty]
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return (
        text_cell(run.run),
        Cell(value=run.seed, text=str(run.seed)),
        Cell(value=run.commit, text=(run.commit[:10] + dirty) if run.commit else "unknown"),
        text_cell(versions or "unknown"),
        text_cell(run.device),
        Cell(value=run.world_size, text=str(run.world_size)),
        Cell(value=run.created, text=units.moment(run.created)),
        Cell(value=run.updated, text=units.moment(run.updated)),
        Cell(value=run.flops_per_sample, text=units.flops(run.flops_per_sample)),
        Cell(value=run.wall_seconds, text=units.duration(run.wall_seconds)),
    )


def _sampling_table(study: StudyData) -> Table | None:
    """How the evaluated images were drawn; None where nothing was evaluated."""
    keys = ["source", "weights", "sampler", "steps", "guidance"]
    if study.evaluation.is_empty():
        return None
    rows = study.evaluation.select(keys).unique().sort(keys)
    return Table(
        title="How evaluated images were drawn",
        columns=tuple(
            Column(label=label, numeric=label in ("Steps", "Guidance"))
            for label in ("Judge", "Weights", "Sampler", "Steps", "Guidance")
        ),
        rows=tuple(
            (
                text_cell(row["source"]),
                text_cell(row["weights"]),
                text_cell(row["sampler"]),
                Cell(value=row["steps"], text=str(row["steps"])),
                Cell(value=row["guidance"], text=f"{row['guidance']:g}"),
            )
            for row in rows.iter_rows(named=True)
        ),
        note="Source: evaluation.jsonl.",
    )
