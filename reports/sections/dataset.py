"""Examples of what the models were trained on, with the captions they came with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError
from prx_scale.runs.files import read_rows
from reports.page import Details, Image, ImageGrid, ImageRow
from reports.sections.samples import SIDES, small_png

EXAMPLES_PER_TASK = 2


def dataset_examples(folder: Path) -> Details | None:
    """A fold with examples of every task family; None where the study keeps none.

    Args:
        folder: of the study; examples are in its dataset/, listed in index.jsonl.
    """
    try:
        listed = read_rows(folder / "dataset" / "index.jsonl")
    except InputError:
        return None
    taken: dict[str, int] = {}
    rows: list[ImageRow] = []
    for row in listed:
        task = str(row.get("task", ""))
        if taken.get(task, 0) < EXAMPLES_PER_TASK and (image := _image(folder / "dataset", row)) is not None:
            taken[task] = taken.get(task, 0) + 1
            rows.append(ImageRow(label=str(row["short"]), hint=str(row["long"]), cells=((image,),)))
    if not rows:
        return None
    grid = ImageGrid(
        title="Training images with their short and their long caption",
        columns=("Image",),
        rows=tuple(rows),
        note="Source: dataset/index.jsonl; the first examples of every task family.",
    )
    return Details(summary="What the models were trained on", blocks=(grid,))


def _image(folder: Path, row: Mapping[str, Any]) -> Image | None:
    if not {"file", "short", "long"} <= row.keys():
        return None
    path = (folder / str(row["file"])).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        return Image(png=small_png(path, SIDES[0]), alt=f"Training image: {row['long']}")
    except OSError:
        return None
