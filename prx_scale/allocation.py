"""The [slurm] table of a study file: what each run asks SLURM for.

Keys have the names of sbatch's long options, with `_` for `-`. What SLURM knows and this package does not interpret is
passed through as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from prx_scale import tables
from prx_scale.errors import InputError, nearest
from prx_scale.sbatch import OWN_BUSINESS, PASSED_THROUGH
from prx_scale.tables import bounded

SUBTABLES = ("depth", "evaluate", "report")
OVERRIDES = ("nodes", "ntasks_per_node", "gpus_per_node", "cpus_per_task", "time", "gpu", "setup", "srun_args")
"""Own keys that [slurm.depth.N], [slurm.evaluate] and [slurm.report] may have, beside those passed through."""


@dataclass(frozen=True, kw_only=True)
class SlurmTable:
    """[slurm]: what a run asks for, and how runs are restarted."""

    nodes: int = bounded(0, low=0)
    """0: as many as the planner needs to fit the run."""
    ntasks_per_node: int = bounded(0, low=0)
    """Processes a node; 0: one a GPU, or one."""
    gpus_per_node: int = bounded(0, low=0)
    cpus_per_task: int = bounded(0, low=0)
    """0: SLURM's default."""
    time: str = ""
    """Limit of one start, as SLURM writes it; empty: what the planner estimates."""
    gpu: str = ""
    """The planner's name of the GPU."""
    python: str = ""
    """Command that starts Python in the job; empty: the interpreter that submits."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the job's command."""
    srun_args: tuple[str, ...] = ()
    """Arguments of srun."""
    array_parallelism: int = bounded(16, low=1)
    """Runs of one array that are at work at the same time, at most."""
    signal_seconds: int = bounded(120, low=10)
    """Before the time limit, to save in."""
    max_restarts: int = bounded(20, low=0)
    """Of one run, whatever the reason."""
    max_fruitless: int = bounded(3, low=1)
    """Starts in a row from the same checkpoint, after which a run has failed."""
    then: tuple[Literal["evaluate", "report"], ...] = ("evaluate", "report")
    """Jobs that follow."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What one job asks SLURM for. Runs with equal ones share an array."""

    nodes: int
    ntasks_per_node: int
    gpus_per_node: int = 0
    cpus_per_task: int = 0
    minutes: int
    """Time limit of one start."""
    options: tuple[tuple[str, str | bool], ...] = ()
    """Passed through to sbatch: names with `_`, values as text, True for a flag."""
    setup: tuple[str, ...] = ()
    srun_args: tuple[str, ...] = ()

    @property
    def world_size(self) -> int:
        """Processes."""
        return self.nodes * self.ntasks_per_node

    @property
    def gpu_hours(self) -> float:
        """GPUs times the time limit, of one start."""
        return self.nodes * self.gpus_per_node * self.minutes / 60


@dataclass(frozen=True, kw_only=True)
class Sized:
    """What the planner would ask for."""

    nodes: int
    minutes: int


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """[slurm] with its overrides, all checked."""

    base: SlurmTable = field(default_factory=SlurmTable)
    where: str = "[slurm]"
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])
    depths: tuple[tuple[int, int, Mapping[str, Any]], ...] = ()
    """First depth, last depth and overrides, in the order of the file; a later one wins."""
    evaluate: Mapping[str, Any] = field(default_factory=dict[str, Any])
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def of_depth(self, depth: int) -> tuple[SlurmTable, tuple[tuple[str, str | bool], ...]]:
        """The table of a depth, its overrides filled in, and the options that are passed through.

        Args:
            depth: of a run.
        """
        merged = dict(self.raw)
        for low, high, overrides in self.depths:
            if low <= depth <= high:
                merged.update(overrides)
        return _read(merged, self.where)

    def training(self, depth: int, sized: Sized | None) -> Allocation:
        """What a run of a depth asks for.

        Args:
            depth: of the run.
            sized: what the planner says; needed where the table leaves nodes or time out.

        Raises:
            InputError: nodes or time are given neither here nor by the planner.
        """
        table, options = self.of_depth(depth)
        if sized is None and not (table.nodes and table.time):
            missing = "nodes" if not table.nodes else "time"
            raise InputError(
                f"{self.where} {missing}: missing for depth {depth}; give it here or in [slurm.depth.{depth}], or give "
                "gpu and gpus_per_node where torch is installed, and the planner estimates it"
            )
        return _allocation(
            table,
            options,
            nodes=table.nodes or (sized.nodes if sized else 1),
            minutes=minutes(table.time, f"{self.where} time") if table.time else (sized.minutes if sized else 0),
        )

    def following(self, kind: Literal["evaluate", "report"]) -> Allocation:
        """What the job that evaluates a run, or the one that fits and reports, asks for: one process.

        Args:
            kind: which.
        """
        own = self.evaluate if kind == "evaluate" else self.report
        small = {"nodes": 1, "ntasks_per_node": 1, "time": "4:00:00" if kind == "evaluate" else "1:00:00"}
        small["gpus_per_node"] = min(1, self.base.gpus_per_node) if kind == "evaluate" else 0
        table, options = _read({**self.raw, **small, **own}, f"{self.where} {kind}")
        limit = minutes(table.time, f"{self.where} {kind} time")
        return _allocation(table, options, nodes=table.nodes, minutes=limit)


def _allocation(
    table: SlurmTable, options: tuple[tuple[str, str | bool], ...], *, nodes: int, minutes: int
) -> Allocation:
    return Allocation(
        nodes=nodes,
        ntasks_per_node=table.ntasks_per_node or table.gpus_per_node or 1,
        gpus_per_node=table.gpus_per_node,
        cpus_per_task=table.cpus_per_task,
        minutes=minutes,
        options=options,
        setup=table.setup,
        srun_args=table.srun_args,
    )


def parse(content: Mapping[str, Any], where: str) -> SlurmSettings:
    """Read [slurm] with [slurm.depth.N], [slurm.evaluate] and [slurm.report].

    Args:
        content: the parsed table.
        where: file and table, for errors, as in ``study.toml: [slurm]``.

    Raises:
        InputError: an unknown key, with the nearest that there is, a wrong type or a value out of bounds.
    """
    raw = {key: value for key, value in content.items() if key not in SUBTABLES}
    base, _ = _read(raw, where)
    evaluate, report = (_overrides(content.get(name, {}), f"{where[:-1]}.{name}]") for name in ("evaluate", "report"))
    settings = SlurmSettings(
        base=base,
        where=where,
        raw=raw,
        depths=_depths(content.get("depth", {}), where),
        evaluate=evaluate,
        report=report,
    )
    settings.following("evaluate")
    settings.following("report")
    if base.time:
        minutes(base.time, f"{where} time")
    return settings


def _depths(content: Any, where: str) -> tuple[tuple[int, int, Mapping[str, Any]], ...]:
    if not isinstance(content, dict):
        raise InputError(f"{where} depth: overrides of a depth are a table of their own, as [slurm.depth.38]")
    found: list[tuple[int, int, Mapping[str, Any]]] = []
    for name, table in cast("dict[str, Any]", content).items():
        here = f"{where[:-1]}.depth.{name}]"
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", name)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise InputError(f'{here}: expected a depth, as [slurm.depth.38], or a range, as [slurm.depth."30-38"]')
        overrides = _overrides(table, here)
        if "time" in overrides:
            minutes(str(overrides["time"]), f"{here} time")
        found.append((low, high, overrides))
    return tuple(found)


def _overrides(table: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"{where}: must be a table, found {table!r}")
    own = cast("dict[str, Any]", table)
    _read(own, where)
    for key in own:
        if key not in OVERRIDES and key not in PASSED_THROUGH:
            raise InputError(f"{where} {key}: holds for the whole sweep; move it to [slurm]")
    return own


def _read(raw: Mapping[str, Any], where: str) -> tuple[SlurmTable, tuple[tuple[str, str | bool], ...]]:
    known = tables.field_types(SlurmTable)
    own = {key: value for key, value in raw.items() if key in known}
    for key in raw:
        name = key.replace("-", "_")
        if name in OWN_BUSINESS:
            raise InputError(f"{where} {key}: is set by the sweep itself: {OWN_BUSINESS[name]}")
        if key not in known and key not in PASSED_THROUGH:
            hint = f"use '{name}'" if name in PASSED_THROUGH else nearest(name, [*known, *PASSED_THROUGH])
            raise InputError(f"{where} {key}: neither a key of this table nor an option of sbatch; {hint}")
    passed = {key: _option(value, f"{where} {key}") for key, value in raw.items() if key not in known}
    options = tuple(sorted((key, value) for key, value in passed.items() if value is not False))
    if isinstance(own.get("time"), int):
        own["time"] = str(own["time"])
    return tables.parse(SlurmTable, own, where), options


def _option(value: Any, where: str) -> str | bool:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in cast("list[Any]", value)):
        return ",".join(str(item) for item in cast("list[Any]", value))
    raise InputError(f"{where}: expected a text, a whole number, true or false, or a list of them, found {value!r}")


_TIMES = (
    (r"(\d+)", (0, 0, 1, 0)),
    (r"(\d+):(\d+)", (0, 0, 1, 2)),
    (r"(\d+):(\d+):(\d+)", (0, 1, 2, 3)),
    (r"(\d+)-(\d+)", (1, 2, 0, 0)),
    (r"(\d+)-(\d+):(\d+)", (1, 2, 3, 0)),
    (r"(\d+)-(\d+):(\d+):(\d+)", (1, 2, 3, 4)),
)
"""SLURM's ways to write a time, with the group that has days, hours, minutes and seconds."""


def minutes(text: str, where: str) -> int:
    """Minutes of a time limit as SLURM writes it: 90, 90:00, 1:30:00, 1-12, 1-12:30 or 1-12:30:00.

    Args:
        text: of the key.
        where: file, table and key, for errors.

    Returns:
        Whole minutes, rounded up.

    Raises:
        InputError: none of these.
    """
    for pattern, places in _TIMES:
        match = re.fullmatch(pattern, text.strip())
        if match:
            days, hours, mins, seconds = (int(match[place]) if place else 0 for place in places)
            total = ((days * 24 + hours) * 60 + mins) * 60 + seconds
            if total:
                return -(-total // 60)
    raise InputError(f"{where}: '{text}' is no time limit; write minutes, 1:30:00, or 1-12:00:00 for a day and a half")
