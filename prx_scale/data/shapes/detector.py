"""An exact rule-based detector of the shapes in an image, which degrades sensibly on imperfect images.

Every pixel takes the nearest of the palette's colours and the background. Every stencil at every place and in every
colour then scores the intersection over union, inside its box, of its pixels with the pixels that are not
background, where only pixels of its own colour count as shared. The best are kept greedily, without overlap. True
objects of rendered scenes score 1 and nothing else scores as much.
"""

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.render import BACKGROUND, PALETTE, STENCILS, scale_of
from prx_scale.data.shapes.scenes import CANVAS, COLORS, OBJECT_SIZE, SHAPES
from prx_scale.evaluation.geneval import Box, Detection

MIN_SCORE = 0.5
PLACES = CANVAS - OBJECT_SIZE + 1  # along one side

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
    scores = _scores(nearest_colors(pixels))
    found: list[list[Detection]] = [[] for _ in range(batch)]
    candidates = np.argwhere(scores >= MIN_SCORE)
    value = scores[tuple(candidates.T)]
    # Stable, so that among equal scores the same one comes first on every machine.
    for row in np.argsort(-value, kind="stable").tolist():
        image, color, place, shape = (int(number) for number in candidates[row])
        detection = _detection(color, place, shape, float(value[row]))
        group = found[image]
        if all(_apart(detection.box, other.box) for other in group):
            group.append(detection)
    return found


def nearest_colors(pixels: Floats) -> Ints:
    """(B, 16, 16) place in COLORS of each pixel's nearest colour, -1 for the background and for pixels not finite."""
    pixels = np.where(np.isfinite(pixels), pixels, np.float32(BACKGROUND))
    background = np.full((1, 3), BACKGROUND, dtype=np.float32)
    palette = np.concatenate([PALETTE, background])
    distance = (palette**2).sum(axis=1) - 2 * np.einsum("bchw,kc->bhwk", pixels, palette)
    nearest = distance.argmin(axis=-1)
    return np.where(nearest == len(PALETTE), -1, nearest)


def _windows(planes: Floats) -> Floats:
    """(..., 169, 16) pixels of every box that fits, row by row, of planes (..., 16, 16)."""
    views = np.lib.stride_tricks.sliding_window_view(planes, (OBJECT_SIZE, OBJECT_SIZE), axis=(-2, -1))
    return views.reshape(*planes.shape[:-2], PLACES**2, OBJECT_SIZE**2)


def _scores(color: Ints) -> Floats:
    """(B, colours, 169, shapes) scores of every stencil at every place in every colour, from (B, 16, 16) colours."""
    covered = STENCILS.reshape(len(SHAPES), -1).astype(np.float32)
    own = (color[:, None] == np.arange(len(COLORS))[:, None, None]).astype(np.float32)
    painted = (color >= 0).astype(np.float32)
    # Foreground of the box outside the stencil widens the union, whatever its colour.
    union = covered.sum(axis=1) + _windows(painted) @ (1 - covered).T
    return (_windows(own) @ covered.T) / union[:, None]


def _apart(a: Box, b: Box) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def _detection(color: int, place: int, shape: int, value: float) -> Detection:
    top, left = divmod(place, PLACES)
    box = (float(left), float(top), float(left + OBJECT_SIZE), float(top + OBJECT_SIZE))
    return Detection(name=SHAPES[shape], box=box, score=value, color=COLORS[color])
