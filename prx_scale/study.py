"""study.toml -> a list of fully resolved runs, each with a stable id.

A list where one value is expected is swept, all lists against each other: the variant "base". `[[variant]]` tables add
ablations: each is a set of overrides on the base, in which a single value ends a sweep and a list starts one.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from prx_scale import allocation, tables
from prx_scale.allocation import SlurmSettings
from prx_scale.choices import Choice, ChoiceFinder, keep_choices
from prx_scale.config import RunConfig
from prx_scale.data.captions import CaptionTable
from prx_scale.encodingtable import Encoding
from prx_scale.epochs import samples_of_epoch
from prx_scale.errors import InputError, nearest
from prx_scale.imagedata import FoundImages, ImageFinder, check_no_encoding, keep_images
from prx_scale.mixes import check_mixes, check_one_length, with_sources, with_stage_steps
from prx_scale.runs.files import write_atomically
from prx_scale.runtables import Checkpoint, Data, Evaluation, Logging, Model, Objective, Parallel, Training, Validation
from prx_scale.stagetables import parse_stages
from prx_scale.starts import Start, keep_starts, known_starts, with_start
from prx_scale.stores import Finder, Found, keep_stores
from prx_scale.studychecks import check_run, check_runs

RUN_TABLES: dict[str, type[Any]] = {
    "model": Model,
    "data": Data,
    "captions": CaptionTable,
    "encoding": Encoding,
    "objective": Objective,
    "training": Training,
    "validation": Validation,
    "checkpoint": Checkpoint,
    "evaluation": Evaluation,
    "parallel": Parallel,
    "logging": Logging,
}
SWEPT_TABLES = ("model", "data", "objective", "training")
REQUIRED_TABLES = ("model", "training")


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    """[study]: what the study is called and is about."""

    name: str
    description: str = ""
    smoke: bool = False
    """The study is a shortened one that only shows that the chain works; the report says so."""


@dataclass(frozen=True, kw_only=True)
class FitTable:
    """[fit]: how the runs' losses become a law."""

    law: str = "chinchilla"
    from_fraction: float = field(default=0.25, metadata={"low": 0, "high": 1})
    """Validations before this share of a run are left out: warm-up is not part of a power law."""
    holdout: tuple[str, ...] = ()
    """Variants that are predicted, not fitted."""
    level: float = field(default=0.8, metadata={"low": 0.5, "high": 0.999})
    """Probability of the intervals."""
    bootstrap: int = field(default=1000, metadata={"low": 100})
    """Resamples behind the intervals."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file, resolved."""

    file: Path
    folder: Path
    """Where the runs go."""
    study: StudyTable
    fit: FitTable
    runs: tuple[RunConfig, ...]
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    starts: Mapping[str, Start] = field(default_factory=dict[str, Start])
    """Weights that runs start from, by the path that the file says."""
    stores: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """Stores that runs train on, by the path that the file says."""
    images: Mapping[str, FoundImages] = field(default_factory=dict[str, FoundImages])
    """What runs encode while they train, by what the file says."""
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    """Results of filters, by the path that the file says."""

    def run(self, run_id: str | None) -> RunConfig:
        """One run of the study.

        Args:
            run_id: its id, or an unambiguous beginning of it; None where the study has a single run.

        Raises:
            InputError: no run or several runs answer to it.
        """
        ids = [run.id for run in self.runs]
        if run_id is None:
            if len(ids) == 1:
                return self.runs[0]
            raise InputError(f"{self.file}: has {len(ids)} runs, so --run is needed; one of: " + ", ".join(ids))
        matches = [run for run in self.runs if run.id == run_id or run.id.startswith(run_id)]
        exact = [run for run in matches if run.id == run_id]
        if len(exact or matches) != 1:
            hint = f"it could be {', '.join(run.id for run in matches)}" if matches else nearest(run_id, ids)
            raise InputError(f"{self.file}: no single run '{run_id}'; {hint}")
        return (exact or matches)[0]


def load(file: Path, folder: Path | None = None) -> Study:
    """Read and resolve a study file.

    Args:
        file: the TOML file, or a study folder that has a study.toml.
        folder: where the runs go; by default the file's own folder when it is called study.toml, else a folder
            beside it with the study's name.

    Returns:
        The study with its runs, deepest sweep axis last.

    Raises:
        InputError: names the file and the key of what cannot be right.
    """
    if file.is_dir():
        file = file / "study.toml"
    content = _read(file)
    known = {"study": StudyTable, "fit": FitTable, "slurm": SlurmSettings, "variant": list, "stage": list, **RUN_TABLES}
    for name in content:
        if name not in known:
            raise InputError(f"{file}: [{name}] is not a table of a study file; {nearest(name, known)}")
    header = tables.parse(StudyTable, _table(content, "study", file), f"{file}: [study]")
    fit = tables.parse(FitTable, _table(content, "fit", file), f"{file}: [fit]")
    slurm = allocation.parse(_table(content, "slurm", file), f"{file}: [slurm]")
    starts = known_starts(file)
    data = _Data(stores=Finder(file), images=ImageFinder(file), choices=ChoiceFinder(file))
    runs = tuple(with_start(run, file, starts, where) for run, where in _resolve(content, header, file, data))
    check_runs(runs, fit.holdout, file)
    if folder is None:
        folder = file.parent if file.name == "study.toml" else file.parent / header.name
    return Study(
        file=file,
        folder=folder,
        study=header,
        fit=fit,
        runs=runs,
        slurm=slurm,
        starts=starts,
        stores=data.stores.found,
        images=data.images.found,
        choices=data.choices.found,
    )


def run_from_json(config: Mapping[str, Any], where: str) -> RunConfig:
    """The configuration that a run.json holds.

    Args:
        config: its `config` part.
        where: the file, for errors.

    Raises:
        InputError: a table or key does not belong to this version.
    """
    plain = {key: value for key, value in config.items() if key not in RUN_TABLES}
    parsed = {name: tables.parse(cls, config.get(name, {}), f"{where}: [{name}]") for name, cls in RUN_TABLES.items()}
    plain["stages"] = parse_stages(plain.get("stages", ()), f"{where}:", counted=True)
    return RunConfig(**plain, **parsed)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not valid TOML: {error}") from error
    if not content:
        raise InputError(f"{file}: empty; a study needs at least [study] name, [model] depth and [training] steps")
    for name in ("study", *REQUIRED_TABLES):
        if name not in content:
            raise InputError(f"{file}: [{name}] is missing")
    return content


def _table(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{file}: [{name}] must be a table, found {table!r}")
    return cast("dict[str, Any]", table)


@dataclass(frozen=True, kw_only=True)
class _Data:
    stores: Finder
    images: ImageFinder
    choices: ChoiceFinder

    def filled(self, run: RunConfig, where: str) -> RunConfig:
        """A run with what there is to know of its data filled in."""
        if run.on_the_fly:
            return self.choices.with_choices(self.images.with_images(run, where), where)
        check_no_encoding(run, where)
        run = with_sources(self.stores.with_store(run, where), self.stores, where)
        return self.choices.with_choices(run, where)

    def samples_of_epoch(self, run: RunConfig, image_size: int, where: str) -> int:
        """Samples that a run that trains on data that were filled in sees in an epoch."""
        if run.on_the_fly:
            return samples_of_epoch(run, image_size, self.images.found, where)
        return samples_of_epoch(run, image_size, self.stores.found, where)


def _resolve(
    content: Mapping[str, Any], header: StudyTable, file: Path, data: _Data
) -> Iterator[tuple[RunConfig, str]]:
    base = {name: _table(content, name, file) for name in RUN_TABLES}
    for variant, overrides, where in _variants(content, file):
        merged = {name: {**base[name], **overrides.get(name, {})} for name in RUN_TABLES}
        stages = parse_stages(overrides.get("stage", content.get("stage", ())), where)
        own_steps = bool(stages) and "steps" not in merged["training"]
        if own_steps:
            merged["training"]["steps"] = 1
        for name in RUN_TABLES:
            tables.check_keys(merged[name], tables.field_types(RUN_TABLES[name]), f"{where} [{name}]")
        first: RunConfig | None = None
        for point in _sweep(merged, where):
            parsed = {name: tables.parse(RUN_TABLES[name], point[name], f"{where} [{name}]") for name in RUN_TABLES}
            run = RunConfig(study=header.name, variant=variant, smoke=header.smoke, stages=stages, **parsed)
            run = data.filled(run, where)
            check_mixes(run, where)
            if own_steps and any(not stage.steps for stage in stages):
                # Counting may take hours: what is wrong whatever comes of it is said before.
                check_run(with_stage_steps(run, _uncounted, where, own_steps=True), where)
            run = with_stage_steps(run, data.samples_of_epoch, where, own_steps=own_steps)
            first = first or run
            check_one_length(first, run, where)
            check_run(run, where)
            yield run, where


def _uncounted(run: RunConfig, image_size: int, where: str) -> int:
    """Samples of an epoch of which only is known that there are enough."""
    return 10**12


def _variants(content: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "base", {}, f"{file}:"
    listed = content.get("variant", [])
    if not isinstance(listed, list):
        raise InputError(f"{file}: variants are written [[variant]], with two brackets, each with a name")
    for number, table in enumerate(cast("list[Any]", listed), start=1):
        where = f"{file}: [[variant]] number {number}"
        overrides = dict(cast("dict[str, Any]", table)) if isinstance(table, dict) else {}
        name = overrides.pop("name", None)
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"{where} name: expected letters, digits, '-' and '_', found {name!r}")
        tables.check_keys(overrides, {**RUN_TABLES, "stage": list}, where)
        for key in overrides.keys() & RUN_TABLES.keys():
            _table(overrides, key, file)
        yield name, overrides, f"{file}: [[variant]] '{name}'"


def _sweep(merged: Mapping[str, dict[str, Any]], where: str) -> Iterator[dict[str, dict[str, Any]]]:
    axes: list[list[tuple[str, str, Any]]] = []
    for name, table in merged.items():
        kinds = tables.field_types(RUN_TABLES[name])
        for key, value in table.items():
            if not isinstance(value, list) or getattr(kinds[key], "__origin__", None) is tuple:
                continue
            if name not in SWEPT_TABLES:
                swept = ", ".join(f"[{table}]" for table in SWEPT_TABLES)
                raise InputError(f"{where} [{name}] {key}: a list cannot be swept here; only in {swept}")
            if not value:
                raise InputError(f"{where} [{name}] {key}: an empty list leaves no run")
            axes.append([(name, key, item) for item in cast("list[Any]", value)])
    for point in itertools.product(*axes):
        chosen = {name: dict(table) for name, table in merged.items()}
        for name, key, item in point:
            chosen[name][key] = item
        yield chosen


def keep_copy(study: Study) -> None:
    """Put the study file into the study folder, where `status`, `evaluate` and `report` look for it.

    Args:
        study: a resolved study.

    Raises:
        InputError: the folder holds a study of another name, which is not overwritten.
    """
    copy = study.folder / "study.toml"
    text = study.file.read_text(encoding="utf-8")
    if copy.exists():
        name = _read(copy)["study"].get("name")
        if name != study.study.name:
            raise InputError(
                f"{copy}: holds the study {name!r}, not {study.study.name!r} of {study.file}; choose another --out"
            )
    keep_starts(study.folder, study.starts)
    keep_stores(study.folder, study.stores)
    keep_images(study.folder, study.images)
    keep_choices(study.folder, study.choices)
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        write_atomically(copy, text)
