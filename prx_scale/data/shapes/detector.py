"""An exact rule-based detector of the shapes in an image, which degrades sensibly on imperfect images.

Every pixel takes the nearest of the palette's colours and the background; connected foreground pixels make a
component; the best placed stencil, by intersection over union, names its shape. The score is that IoU times the
share of the component's pixels that have its most frequent colour, and is 1 on rendered scenes.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.render import BACKGROUND, PALETTE, STENCILS, scale_of
from prx_scale.data.shapes.scenes import CANVAS, COLORS, OBJECT_SIZE, SHAPES
from prx_scale.evaluation.geneval import Detection

MIN_PIXELS = 6
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
    color = nearest_colors(pixels)
    labels = components(color >= 0)
    found: list[list[Detection]] = [[] for _ in range(batch)]
    owner, masks = _masks(labels)
    if len(masks):
        matches = _match(masks, color[owner].reshape(len(masks), -1))
        for number, detection in enumerate(matches):
            if detection.score >= MIN_SCORE:
                found[int(owner[number])].append(detection)
    return [sorted(group, key=lambda d: -d.score) for group in found]


def nearest_colors(pixels: Floats) -> Ints:
    """(B, 16, 16) place in COLORS of each pixel's nearest colour, -1 for the background."""
    background = np.full((1, 3), BACKGROUND, dtype=np.float32)
    palette = np.concatenate([PALETTE, background])
    distance = (palette**2).sum(axis=1) - 2 * np.einsum("bchw,kc->bhwk", pixels, palette)
    nearest = distance.argmin(axis=-1)
    return np.where(nearest == len(PALETTE), -1, nearest)


def components(foreground: NDArray[np.bool_]) -> Ints:
    """(B, 16, 16) labels of 8-connected components: the highest pixel number in each, 0 outside all."""
    numbers = np.arange(1, CANVAS * CANVAS + 1).reshape(CANVAS, CANVAS)
    labels = np.where(foreground, numbers, 0)
    while True:
        padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
        rows = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        grown = np.maximum(np.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:]) * foreground
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def _masks(labels: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Image number (K,) and pixels (K, 256) of every component that is large enough."""
    flat = labels.reshape(len(labels), -1)
    keys = flat + np.arange(len(flat))[:, None] * (flat.shape[1] + 1)
    values, sizes = np.unique(keys[flat > 0], return_counts=True)
    values = values[sizes >= MIN_PIXELS]
    owner = values // (flat.shape[1] + 1)
    return owner, keys[owner] == values[:, None]


@cache
def _templates() -> tuple[Floats, Ints]:
    """Every shape at every place: pixels (T, 256) and (T, 3) shape, left, top."""
    line = np.arange(CANVAS - OBJECT_SIZE + 1)
    places = np.stack(np.meshgrid(np.arange(len(SHAPES)), line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    canvas = np.zeros((len(places), CANVAS, CANVAS), dtype=np.float32)
    template, dy, dx = np.nonzero(STENCILS[places[:, 0]])
    canvas[template, places[template, 2] + dy, places[template, 1] + dx] = 1
    return canvas.reshape(len(places), -1), places


def _match(masks: NDArray[np.bool_], color: Ints) -> list[Detection]:
    """The best template and the most frequent colour of each component (K, 256)."""
    templates, places = _templates()
    pixels = masks.astype(np.float32)
    shared = pixels @ templates.T
    overlap = shared / (pixels.sum(axis=1)[:, None] + templates.sum(axis=1) - shared)
    best = overlap.argmax(axis=1)
    votes = np.stack([((color == number) & masks).sum(axis=1) for number in range(len(COLORS))], axis=1)
    purity = votes.max(axis=1) / masks.sum(axis=1)
    scores = (overlap.max(axis=1) * purity).tolist()
    corners, hues = places[best].tolist(), votes.argmax(axis=1).tolist()
    return [
        _detection(shape, left, top, hue, value)
        for (shape, left, top), hue, value in zip(corners, hues, scores, strict=True)
    ]


def _detection(shape: int, left: int, top: int, color: int, value: float) -> Detection:
    box = (float(left), float(top), float(left + OBJECT_SIZE), float(top + OBJECT_SIZE))
    return Detection(name=SHAPES[shape], box=box, score=value, color=COLORS[color])
