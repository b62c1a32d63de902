"""Scenes to pixels: hard-edged 4-pixel shapes on a grey 16-pixel canvas, in [-1, 1].

Shapes are pixel stencils with a pairwise intersection over union of at most 3/4, and colours are corners of the
RGB cube, so that a rule can tell every shape and colour exactly.
"""

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.scenes import CANVAS, COLORS, MAX_OBJECTS, SHAPES, SceneArrays
from prx_scale.errors import InputError

Image = NDArray[np.float32]

_STENCILS = {
    "square": ("XXXX", "XXXX", "XXXX", "XXXX"),
    "circle": (".XX.", "XXXX", "XXXX", ".XX."),
    "triangle": ("X...", "XX..", "XXX.", "XXXX"),
    "cross": ("X..X", ".XX.", ".XX.", "X..X"),
    "ring": ("XXXX", "X..X", "X..X", "XXXX"),
}
_PALETTE = {
    "red": (1, -1, -1),
    "yellow": (1, 1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "purple": (1, -1, 1),
    "white": (1, 1, 1),
}
BACKGROUND = 0.0

STENCILS: NDArray[np.bool_] = np.asarray([[list(row) for row in _STENCILS[name]] for name in SHAPES]) == "X"
"""(shapes, 4, 4): which pixels of its box a shape covers, in the order of SHAPES."""

PALETTE: Image = np.asarray([_PALETTE[name] for name in COLORS], dtype=np.float32)
"""(colours, 3): RGB in [-1, 1], in the order of COLORS."""


def scale_of(image_size: int) -> int:
    """Pixels per canvas pixel for square images of `image_size`.

    Raises:
        InputError: the size is no positive multiple of the canvas.
    """
    if image_size < CANVAS or image_size % CANVAS:
        raise InputError(f"shapes: image_size must be a multiple of {CANVAS}, not {image_size}")
    return image_size // CANVAS


def render(scenes: SceneArrays, image_size: int = CANVAS) -> Image:
    """Draw a batch of scenes.

    Args:
        scenes: B scenes.
        image_size: width and height; beyond 16, each canvas pixel becomes a block of equal pixels.

    Returns:
        (B, 3, image_size, image_size) in [-1, 1].
    """
    scale = scale_of(image_size)
    image = np.full((len(scenes.task), CANVAS, CANVAS, 3), BACKGROUND, dtype=np.float32)
    for slot in range(MAX_OBJECTS):
        rows = np.flatnonzero(scenes.count > slot)
        if not len(rows):
            break
        covered, dy, dx = np.nonzero(STENCILS[scenes.shape[rows, slot]])
        b = rows[covered]
        image[b, scenes.top[b, slot] + dy, scenes.left[b, slot] + dx] = PALETTE[scenes.color[b, slot]]
    pixels = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    return pixels.repeat(scale, axis=2).repeat(scale, axis=3) if scale > 1 else pixels
