"""Examples of the embedded dataset as files, so that one can see what the models are trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from prx_scale.data.shapes.captions import long_caption, short_caption
from prx_scale.data.shapes.dataset import ShapesDataset
from prx_scale.data.shapes.scenes import TASKS
from prx_scale.runs.files import write_atomically
from prx_scale.runtables import Data

EXAMPLES_PER_TASK = 4
DRAWN = 512
"""Samples looked through for examples; each task makes up about a sixth of them."""


def write_preview(data: Data, folder: Path) -> None:
    """Write some training images of each task family, with both captions of each in index.jsonl.

    Args:
        data: names the stream of images.
        folder: made where it does not exist.
    """
    batch = ShapesDataset(seed=data.seed, image_size=data.image_size).batch(np.arange(DRAWN))
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for task in TASKS:
        of_task = [number for number, scene in enumerate(batch.scenes) if scene.task == task]
        for number in of_task[:EXAMPLES_PER_TASK]:
            pixels = ((batch.image[number].transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8)
            file = f"{task}-{number:05d}.png"
            Image.fromarray(pixels).save(folder / file)
            scene = batch.scenes[number]
            row = {"file": file, "task": task, "short": short_caption(scene), "long": long_caption(scene)}
            lines.append(json.dumps(row) + "\n")
    write_atomically(folder / "index.jsonl", "".join(lines))
