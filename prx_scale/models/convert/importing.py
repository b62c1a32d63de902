"""Published weights into a folder that runs can start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from prx_scale.errors import InputError
from prx_scale.models.convert.detection import Found, detect
from prx_scale.models.convert.folder import positions_of_grid, write_folder
from prx_scale.models.convert.positions import EvenGrid, largest_difference, recognise, settings_of
from prx_scale.models.convert.sources import DTYPES, Source, open_source
from prx_scale.models.convert.tensors import Read, from_theirs
from prx_scale.models.convert.writing import SHARD_BYTES, whole_folder
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.names import POSITIONS, WeightSizes, parameter_shapes
from prx_scale.startweights import INFO, WeightsInfo


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was found and written."""

    found: Found
    dtypes: tuple[str, ...]
    """In which the weights were stored."""
    even_grid: EvenGrid | None
    """Where positions are sinusoids of an even grid, the grid."""
    positions_off: float
    """How far the file's table is from the sinusoids that stand for it; 0 where it is kept as a table."""
    info: WeightsInfo


def import_weights(path: Path, out: Path, *, overwrite: bool = False, limit: int = SHARD_BYTES) -> Imported:
    """Read published weights and write a folder of our own; nothing is left of one that fails.

    Args:
        path: a pipeline or transformer folder, a safetensors file or index, or a file that torch saved.
        out: the folder to write.
        overwrite: replace it where it is there.
        limit: bytes of one file.

    Raises:
        InputError: names file and tensor of what cannot be read or represented, or the folder is taken.
    """
    with whole_folder(out, overwrite=overwrite, marker=INFO) as folder:
        source = open_source(path)
        found = detect(source.shapes, source.path)
        dtypes = _dtypes(source, found)
        table = _positions(source, found)
        settings = settings_of(table)
        sizes = replace(found.sizes, learned_side=0 if settings else found.side)
        info = write_folder(
            folder,
            sizes=sizes,
            positions=positions_of_grid(
                settings or PositionGrid(side=found.side, image=found.side, base=found.side), learned=settings is None
            ),
            read=ours_from(source, found, sizes),
            source={
                "path": str(path.absolute()),
                "layout": found.layout.name,
                "dtypes": list(dtypes),
                "sha256": source.fingerprints(),
            },
            limit=limit,
        )
    off = largest_difference(settings.table(sizes.hidden), table) if settings else 0.0
    return Imported(found=found, dtypes=dtypes, even_grid=recognise(table), positions_off=off, info=info)


def ours_from(source: Source, found: Found, sizes: WeightSizes) -> Read:
    """Our parameters out of their tensors, one at a time, in float32.

    Args:
        source: their tensors.
        found: what they are.
        sizes: of our model.
    """
    shapes = parameter_shapes(sizes) | {POSITIONS: (found.side, found.side, sizes.hidden)}
    entry_of = {name: entry for entry in found.entries for name in entry.ours}

    def read(name: str) -> Tensor:
        entry = entry_of[name]
        value = source.read(found.prefix + entry.theirs)
        return from_theirs(entry, value, shapes)[name].to(torch.float32)

    return read


def _positions(source: Source, found: Found) -> Tensor:
    """(side, side, hidden), as stored."""
    value = source.read(found.prefix + found.layout.positions)
    return value.reshape(found.side, found.side, found.sizes.hidden)


def _dtypes(source: Source, found: Found) -> tuple[str, ...]:
    names = [found.prefix + entry.theirs for entry in found.entries]
    for name in names:
        if source.dtypes[name] not in DTYPES.values():
            valid = ", ".join(DTYPES.values())
            raise InputError(f"{source.path}: {name}: of type {source.dtypes[name]}; only {valid} are weights")
    return tuple(sorted({source.dtypes[name] for name in names}))
