"""The section of samples: the same prompts for every depth, side by side."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from prx_scale.runs.files import read_rows
from prx_scale.runs.info import RunInfo
from reports.page import Image, ImageGrid, ImageRow, Prose, Section
from reports.study_data import StudyData

PROMPTS_PER_TASK = 2
IMAGES_PER_CELL = 2
SIDES = (128, 96, 64, 48)
"""Largest side of an embedded sample in pixels: the first with which all of them fit the budget."""
BUDGET = 1_200_000
"""Bytes of all samples together, so that the page stays below 3 MB."""


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """The samples of one run's last sampled checkpoint."""

    run: RunInfo
    folder: Path
    rows: tuple[Mapping[str, Any], ...]

    def of(self, prompt: str) -> list[Mapping[str, Any]]:
        """The samples of one prompt, in order."""
        return sorted((row for row in self.rows if row["prompt"] == prompt), key=lambda row: int(row["image"]))


def samples_section(study: StudyData) -> Section:
    """A grid of samples, or the sentence that there are none."""
    sets = sample_sets(study)
    if not sets:
        blocks = (Prose(text="No samples have been drawn yet.", tone="note"),)
        return Section(key="samples", title="Samples", blocks=blocks)
    names = [f"{entry.run.run} ({entry.folder.name})" for entry in sets]
    text = (
        "The same prompts and the same starting noise for every depth. Shown are the first prompts of every task and "
        "their first images, not chosen by hand. A tick in a circle marks an image that the detector found correct, a "
        "cross in a square one that it did not."
    )
    grid = ImageGrid(
        title="Samples by depth",
        columns=tuple(f"Depth {entry.run.depth}" for entry in sets),
        rows=_rows(sets),
        note=f"Source: samples/ of {', '.join(names)}.",
    )
    return Section(key="samples", title="Samples", blocks=(Prose(text=text), grid))


def sample_sets(study: StudyData) -> list[SampleSet]:
    """Per depth the first run that has samples, with those of its last checkpoint, averaged weights first."""
    found: dict[int, SampleSet] = {}
    for run in study.runs:
        if run.depth not in found and (entry := _last_samples(run)) is not None:
            found[run.depth] = entry
    return [found[depth] for depth in sorted(found)]


def _last_samples(run: RunInfo) -> SampleSet | None:
    folders = [path.parent for path in run.folder.glob("samples/*/samples.jsonl")]
    for folder in sorted(folders, key=lambda path: (path.name.endswith("-ema"), path.name), reverse=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = tuple(row for row in read_rows(folder / "samples.jsonl") if _complete(row))
        if rows:
            return SampleSet(run=run, folder=folder, rows=rows)
    return None


def _complete(row: Mapping[str, Any]) -> bool:
    return {"file", "prompt_id", "image", "prompt"} <= row.keys()


def chosen_prompts(sets: list[SampleSet]) -> list[tuple[str, str]]:
    """The first prompts of every task, those that all depths have before others, as (prompt, task)."""
    first: dict[str, tuple[int, int, str]] = {}
    for entry in sets:
        for row in entry.rows:
            shared = sum(1 for other in sets if any(r["prompt"] == row["prompt"] for r in other.rows))
            first.setdefault(row["prompt"], (-shared, int(row["prompt_id"]), str(row.get("tag", ""))))
    taken: dict[str, int] = {}
    chosen: list[tuple[str, str]] = []
    for prompt, (_, _, tag) in sorted(first.items(), key=lambda item: item[1][:2]):
        if taken.get(tag, 0) < PROMPTS_PER_TASK:
            taken[tag] = taken.get(tag, 0) + 1
            chosen.append((prompt, tag))
    return chosen


def _rows(sets: list[SampleSet]) -> tuple[ImageRow, ...]:
    """One row per prompt, its images as large as the budget allows."""
    rows: tuple[ImageRow, ...] = ()
    for side in SIDES:
        rows = tuple(_row(prompt, tag, sets, side) for prompt, tag in chosen_prompts(sets))
        if sum(len(image.png) for row in rows for cell in row.cells for image in cell) <= BUDGET:
            break
    return rows


def _row(prompt: str, tag: str, sets: list[SampleSet], side: int) -> ImageRow:
    cells = tuple(
        tuple(image for row in entry.of(prompt)[:IMAGES_PER_CELL] if (image := _image(entry, row, side)) is not None)
        for entry in sets
    )
    return ImageRow(label=prompt, hint=tag.replace("_", " "), cells=cells)


def _image(entry: SampleSet, row: Mapping[str, Any], side: int) -> Image | None:
    """One sample as a small PNG; None where its file is missing, damaged or outside its folder."""
    path = (entry.folder / str(row["file"])).resolve()
    if not path.is_relative_to(entry.folder.resolve()) or not path.is_file():
        return None
    correct = row.get("correct")
    mark = "unjudged" if correct is None else ("correct" if correct else "incorrect")
    reason = str(row.get("reason") or "")
    words = f"Depth {entry.run.depth}, '{row['prompt']}', image {int(row['image']) + 1}: {mark}"
    try:
        png = small_png(path, side)
    except OSError:
        return None
    return Image(png=png, alt=words + (f" ({reason})" if reason else ""), mark=mark)


def small_png(path: Path, side: int) -> bytes:
    """The picture as PNG, scaled down where it is longer than ``side`` pixels.

    Args:
        path: the picture.
        side: its largest side, in pixels.

    Raises:
        OSError: the file is not a picture.
    """
    with Picture.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
