"""Folders of weights that a run can start from: what they hold, and whether it fits a run. Needs no torch.

DIR/weights.json                     sizes, positions, content hash, where the weights came from
DIR/model.safetensors                the parameters by our names, float32; several files with an index when large
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from prx_scale import tables
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.build import position_side
from prx_scale.models.convert.headers import Described, read_header, read_index
from prx_scale.models.names import POSITIONS, TensorShape, WeightSizes, parameter_shapes, sizes_of_run
from prx_scale.runtables import HEAD_DIM

SCHEMA = 1
INFO = "weights.json"
STEM = "model"
NORMS = (".q_norm.weight", ".k_norm.weight")
SIZE_EMBED = "size_embed."


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The table of positions that weights were made with."""

    kind: Literal["sin-cos", "learned"]
    grid: int
    """Patches along a side of the table."""
    image: int = 0
    """Of sinusoids: patches along a side of the image at whose resolution the model was made; see `PositionGrid`."""
    base: int = 0
    """Of sinusoids: patches along a side at which neighbours are 1 apart."""


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """weights.json."""

    sizes: WeightSizes
    positions: Positions
    parameters: int
    hash: str
    """Of the parameters' names, shapes and values."""
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """The content of weights.json."""
        return {"schema": SCHEMA, **asdict(self)}


def read_info(folder: Path) -> WeightsInfo:
    """Read a folder's weights.json.

    Args:
        folder: of the weights.

    Raises:
        InputError: there is none, or it is damaged or of another version.
    """
    file = folder / INFO
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = "no such folder" if not folder.is_dir() else f"no {INFO} in it"
        raise InputError(
            f"{folder}: {reason}; a folder of weights is what import-weights and export --format prx write"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    if not isinstance(content, dict) or cast("dict[str, Any]", content).get("schema") != SCHEMA:
        raise InputError(f"{file}: not of schema {SCHEMA}, the one that this version reads")
    return _parsed(cast("dict[str, Any]", content), file)


def _parsed(content: dict[str, Any], file: Path) -> WeightsInfo:
    def table(name: str) -> dict[str, Any]:
        return tables.check_value(content.get(name), dict, f"{file}: {name}")

    info = WeightsInfo(
        sizes=tables.parse(WeightSizes, table("sizes"), f"{file}: sizes"),
        positions=tables.parse(Positions, table("positions"), f"{file}: positions"),
        parameters=tables.check_value(content.get("parameters"), int, f"{file}: parameters"),
        hash=tables.check_value(content.get("hash"), str, f"{file}: hash"),
        source=table("source"),
    )
    if min(info.sizes.depth, info.sizes.hidden, info.sizes.patch, info.positions.grid) < 1:
        raise InputError(f"{file}: sizes: depth, hidden, patch and the grid of positions are at least 1")
    return info


def tensors_of(folder: Path) -> dict[str, Described]:
    """The parameters that a folder holds.

    Args:
        folder: of the weights.

    Raises:
        InputError: its files are missing or damaged.
    """
    index = folder / f"{STEM}.safetensors.index.json"
    return read_index(index) if index.exists() else read_header(folder / f"{STEM}.safetensors")


def check_fits(run: RunConfig, folder: Path, info: WeightsInfo, where: str) -> list[str]:
    """Whether weights are those of a run's model.

    QK-norm may be added to weights that lack it, with scale 1, and an embedder of sizes, which gives zero at first; a
    trained table of positions may start from the weights' sinusoids.

    Args:
        run: the run.
        folder: of the weights.
        info: its weights.json.
        where: file and table, for errors.

    Returns:
        What is not the same function as the weights were made with, in words.

    Raises:
        InputError: names the first parameter that does not fit, with both shapes.
    """
    found = {name: each.shape for name, each in tensors_of(folder).items()}
    expected, where = parameter_shapes(sizes_of_run(run)), f"{where} [training] start_from: {folder}"
    made = _made_of(info)
    for name, shape in expected.items():
        if name in found and found[name] != shape:
            raise InputError(f"{where}: {name} is {list(found[name])}, the run's is {list(shape)}; {made}")
    for name, shape in expected.items():
        if name not in found and not _can_be_made(name, shape, info):
            raise InputError(f"{where}: {name} is missing, the run's is {list(shape)}; {made}")
    for name in found:
        if name not in expected:
            raise InputError(f"{where}: {name} is {list(found[name])}, the run's model has none; {made}")
    return _differences(run, info)


def _can_be_made(name: str, shape: TensorShape, info: WeightsInfo) -> bool:
    if name.endswith(NORMS):
        return not info.sizes.qk_norm
    if name.startswith(SIZE_EMBED):
        return not info.sizes.size_conditioning
    return name == POSITIONS and info.positions.kind == "sin-cos" and shape[0] == info.positions.grid


def _made_of(info: WeightsInfo) -> str:
    """The settings of a model that fits, in the study file's words."""
    return "the weights are of " + ", ".join(f"{key} = {value}" for key, value in model_table(info).items())


def model_table(info: WeightsInfo) -> dict[str, str]:
    """The keys of [model] for a run that starts from weights, as written in a study file.

    Args:
        info: of the weights.
    """
    sizes, positions = info.sizes, info.positions
    table = {"depth": str(sizes.depth)}
    if sizes.hidden != HEAD_DIM * sizes.depth:
        table["width"] = str(sizes.hidden)
    table |= {"patch": str(sizes.patch), "qk_norm": json.dumps(sizes.qk_norm)}
    if sizes.weight_sets != 2:
        table["weight_sets"] = str(sizes.weight_sets)
    if sizes.size_conditioning:
        table["size_conditioning"] = "true"
    table |= {"positions": json.dumps(positions.kind), "position_grid": str(positions.grid)}
    return table | ({"position_base": str(positions.base)} if positions.kind == "sin-cos" else {})


def _differences(run: RunConfig, info: WeightsInfo) -> list[str]:
    notes: list[str] = []
    if run.model.qk_norm and not info.sizes.qk_norm:
        notes.append("QK-norm is added, with scale 1, to weights that were trained without it")
    mine = Positions(
        kind="sin-cos",
        grid=position_side(run),
        image=run.grid_side,
        base=run.model.position_base or run.grid_side,
    )
    if run.model.positions == "sin-cos" and mine != info.positions:
        notes.append(
            f"positions are those of {mine.image} patches a side (grid {mine.grid}, base {mine.base}), not the "
            f"weights' of {info.positions.image} (grid {info.positions.grid}, base {info.positions.base})"
        )
    return notes


def check_start(run: RunConfig, where: str) -> list[str]:
    """Whether a run can start from the weights that it names.

    Args:
        run: a run whose `start_from` is set.
        where: file, for errors.

    Returns:
        What is not the same function as the weights were made with, in words.

    Raises:
        InputError: the folder is missing, has other weights, or does not fit.
    """
    folder = Path(run.training.start_from)
    info = read_info(folder)
    if info.hash != run.training.start_hash:
        raise InputError(
            f"{where} [training] start_hash: {run.training.start_hash[:12]}..., but {folder} has weights of "
            f"{info.hash[:12]}... now; launch them as a study of its own, or remove starts.json beside study.toml"
        )
    return check_fits(run, folder, info, where)
