"""An exact rule-based detector of the shapes in an image, which degrades sensibly on imperfect images.

Every pixel takes the nearest of the palette's colours and the background. Every stencil at every place and in every
colour then scores the intersection over union, inside its box, of its pixels with the pixels that are not
background, where only pixels of its own colour count as shared. The best are kept greedily, without overlap. True
objects of rendered scenes score 1 and nothing else scores as much.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.render import BACKGROUND, PALETTE, STENCILS, scale_of
from prx_scale.data.shapes.scenes import CANVAS, COLORS, OBJECT_SIZE, SHAPES
from prx_scale.evaluation.geneval import Box, Detection

MIN_SCORE = 0.5

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def detect(images: Floats) -> list[list[Detection]]:
    """Find the shapes in a batch of images.

    Args:
        images: (B, 3, H, H) in about [-1, 1]; H is a multiple of 16 and is reduced to 16 by averaging.

    Returns:
        Per image the detections with a score of at least MIN_SCORE, best first, in pixels of the 16-pixel canvas.

    Raises:
        InputError: H is no multiple of 16.
    """
    batch, _, size, _ = images.shape
    scale = scale_of(size)
    pixels = images.reshape(batch, 3, CANVAS, scale, CANVAS, scale).mean(axis=(3, 5))
    scores = _scores(nearest_colors(pixels).reshape(batch, -1))
    found: list[list[Detection]] = [[] for _ in range(batch)]
    owner, hue, template = np.nonzero(scores >= MIN_SCORE)
    value = scores[owner, hue, template]
    # Stable, so that of equal scores the upper left one comes first on every machine.
    for row in np.argsort(-value, kind="stable").tolist():
        detection = _detection(int(template[row]), int(hue[row]), float(value[row]))
        group = found[int(owner[row])]
        if all(_apart(detection.box, other.box) for other in group):
            group.append(detection)
    return found


def nearest_colors(pixels: Floats) -> Ints:
    """(B, 16, 16) place in COLORS of each pixel's nearest colour, -1 for the background."""
    background = np.full((1, 3), BACKGROUND, dtype=np.float32)
    palette = np.concatenate([PALETTE, background])
    distance = (palette**2).sum(axis=1) - 2 * np.einsum("bchw,kc->bhwk", pixels, palette)
    nearest = distance.argmin(axis=-1)
    return np.where(nearest == len(PALETTE), -1, nearest)


@cache
def _templates() -> tuple[Floats, Floats, Ints]:
    """Every shape at every place, row by row: its pixels (T, 256), its box (T, 256), and shape, left, top (T, 3)."""
    line = np.arange(CANVAS - OBJECT_SIZE + 1)
    top, left, shape = (a.ravel() for a in np.meshgrid(line, line, np.arange(len(SHAPES)), indexing="ij"))
    covered, boxes = np.zeros((2, len(shape), CANVAS, CANVAS), dtype=np.float32)
    every = np.arange(len(shape))
    for dy, dx in np.ndindex(OBJECT_SIZE, OBJECT_SIZE):
        boxes[every, top + dy, left + dx] = 1
        covered[every, top + dy, left + dx] = STENCILS[shape, dy, dx]
    places = np.stack([shape, left, top], axis=1)
    return covered.reshape(len(shape), -1), boxes.reshape(len(shape), -1), places


def _scores(color: Ints) -> Floats:
    """(B, colours, T) scores of every template in every colour, from the pixels' colours (B, 256)."""
    covered, boxes, _ = _templates()
    own = (color[:, None] == np.arange(len(COLORS))[:, None]).astype(np.float32)
    painted = (color >= 0).astype(np.float32)
    # Foreground of the box outside the stencil widens the union, whatever its colour.
    union = covered.sum(axis=1) + painted @ (boxes - covered).T
    return (own @ covered.T) / union[:, None]


def _apart(a: Box, b: Box) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def _detection(template: int, color: int, value: float) -> Detection:
    shape, left, top = (int(number) for number in _templates()[2][template])
    box = (float(left), float(top), float(left + OBJECT_SIZE), float(top + OBJECT_SIZE))
    return Detection(name=SHAPES[shape], box=box, score=value, color=COLORS[color])
