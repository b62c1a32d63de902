"""Scenes of one to four flat shapes, drawn from a seeded generator over GenEval's six task families.

The held-out split is disjoint from the training split by construction: every combination of shapes and colours
reserves one layout in `SPLITS` for the held-out split, whatever the seed, so no held-out image is ever trained on.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.hashing import mix, uniforms

Split = Literal["train", "heldout"]

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
SHAPES = ("square", "circle", "triangle", "cross", "ring")
COLORS = ("red", "yellow", "green", "blue", "purple", "white")
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 4
CANVAS = 16
OBJECT_SIZE = 4
GAP = 1
STEP = 4
SPLITS = 16
DRAWS = 15

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_COUNTS: Ints = np.asarray([1, 2, 0, 1, 2, 2])  # objects of each task; counting draws its own number


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One shape: its class, its colour, and the top-left pixel and width of its box."""

    shape: str
    color: str
    left: int
    top: int
    size: int = OBJECT_SIZE

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the middle of the box, in pixels of the 16-pixel canvas, y downward."""
        return (self.left + self.size / 2, self.top + self.size / 2)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an image shows. `objects` stand in the order in which the caption names them.

    `relation` says where the first object is, seen from the second; None outside the position family.
    """

    task: str
    objects: tuple[SceneObject, ...]
    relation: str | None = None


@dataclass(frozen=True, kw_only=True)
class SceneArrays:
    """A batch of scenes as arrays: task, count, relation (B,); shape, color, left, top (B, 4).

    Numbers index TASKS, SHAPES, COLORS and RELATIONS (-1: none). Only the first `count` slots are objects.
    `caption_draw` (B,) is a uniform number for choosing between captions.
    """

    task: Ints
    count: Ints
    shape: Ints
    color: Ints
    left: Ints
    top: Ints
    relation: Ints
    caption_draw: Floats

    def scenes(self) -> list[Scene]:
        """The same batch as one `Scene` per row."""
        columns = (self.shape, self.color, self.left, self.top)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        heads = zip(self.task.tolist(), self.count.tolist(), self.relation.tolist(), strict=True)
        return [_scene(*head, *row) for head, row in zip(heads, rows, strict=True)]


def _scene(
    task: int, count: int, relation: int, shape: list[int], color: list[int], left: list[int], top: list[int]
) -> Scene:
    objects = tuple(
        SceneObject(shape=SHAPES[shape[i]], color=COLORS[color[i]], left=left[i], top=top[i]) for i in range(count)
    )
    return Scene(task=TASKS[task], objects=objects, relation=RELATIONS[relation] if relation >= 0 else None)


@cache
def layouts(count: int) -> Ints:
    """All ways to place `count` objects on a grid of STEP pixels with at least GAP empty pixels between them.

    Returns:
        (N, count, 2) top-left corners as (left, top), each set once, in a fixed shuffled order.
    """
    line = np.arange(0, CANVAS - OBJECT_SIZE + 1, STEP)
    places = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    apart = (np.abs(places[:, None] - places[None]) >= OBJECT_SIZE + GAP).any(-1)
    apart = np.triu(apart)
    found = np.arange(len(places))[:, None]
    for _ in range(count - 1):
        allowed = np.logical_and.reduce([apart[found[:, i]] for i in range(found.shape[1])])
        base, extra = np.nonzero(allowed)
        found = np.concatenate([found[base], extra[:, None]], axis=1)
    order = np.argsort(mix(np.arange(len(found), dtype=np.uint64)))
    return places[found[order]].astype(np.int64)


def draw(seed: int, indices: Ints, split: Split = "train") -> SceneArrays:
    """Draw the scenes of the given indices.

    Args:
        seed: stream of scenes.
        indices: (B,) sample numbers; the same number always gives the same scene.
        split: "train" or "heldout"; the two never share an image.
    """
    u = uniforms(seed, indices, DRAWS)
    task = _pick(u[:, 0], len(TASKS))
    counted = 2 + _pick(u[:, 1], MAX_OBJECTS - 1)
    count = np.where(task == TASKS.index("counting"), counted, _COUNTS[task])
    shape, color = _attributes(task, u[:, 2:6], u[:, 6:10])
    corners = _places(count, shape, color, u[:, 10], u[:, 11], split)
    # Slots are in raster order; without the swap the object named first would always be the left or upper one.
    swap = (u[:, 12] < 0.5) & (count == 2)
    shape, color, corners = (_swapped(a, swap) for a in (shape, color, corners))
    relation = np.where(task == TASKS.index("position"), _relation(corners, u[:, 13]), -1)
    return SceneArrays(
        task=task,
        count=count,
        shape=shape,
        color=color,
        left=corners[..., 0],
        top=corners[..., 1],
        relation=relation,
        caption_draw=u[:, 14],
    )


def scene(seed: int, index: int, split: Split = "train") -> Scene:
    """The scene of one index; see `draw`."""
    return draw(seed, np.asarray([index]), split).scenes()[0]


def _pick(u: Floats, n: int) -> Ints:
    return (u * n).astype(np.int64)


def _attributes(task: Ints, u_shape: Floats, u_color: Floats) -> tuple[Ints, Ints]:
    """Shapes and colours (B, 4): equal shapes when counting, else different ones; different colours to bind."""
    shape = _pick(u_shape, len(SHAPES))
    shape[:, 1] = (shape[:, 0] + 1 + _pick(u_shape[:, 1], len(SHAPES) - 1)) % len(SHAPES)
    shape = np.where((task == TASKS.index("counting"))[:, None], shape[:, :1], shape)
    color = _pick(u_color, len(COLORS))
    other = (color[:, 0] + 1 + _pick(u_color[:, 1], len(COLORS) - 1)) % len(COLORS)
    color[:, 1] = np.where(task == TASKS.index("color_attr"), other, color[:, 1])
    return shape, color


def _places(count: Ints, shape: Ints, color: Ints, u: Floats, u_residue: Floats, split: Split) -> Ints:
    """(B, 4, 2) corners: a layout whose number has the residue that the split owns for these attributes."""
    code = shape * len(COLORS) + color + 1
    code = np.where(np.arange(MAX_OBJECTS) < count[:, None], code, 0) @ (64 ** np.arange(MAX_OBJECTS))
    reserved = (mix(code.astype(np.uint64)) % np.uint64(SPLITS)).astype(np.int64)
    others = reserved + 1 + _pick(u_residue, SPLITS - 1)
    residue = reserved if split == "heldout" else others % SPLITS
    corners = np.zeros((len(count), MAX_OBJECTS, 2), dtype=np.int64)
    for n in range(1, MAX_OBJECTS + 1):
        rows = np.flatnonzero(count == n)
        table = layouts(n)
        number = residue[rows] + SPLITS * _pick(u[rows], -(-len(table) // SPLITS))
        corners[rows, :n] = table[np.where(number < len(table), number, number - SPLITS)]
    return corners


def _swapped(values: Ints, swap: NDArray[np.bool_]) -> Ints:
    exchanged = values[:, [1, 0, 2, 3]]
    return np.where(swap.reshape(-1, *[1] * (values.ndim - 1)), exchanged, values)


def _relation(corners: Ints, u: Floats) -> Ints:
    """Relation (B,) of object 0 to object 1 along the axis on which they are further apart."""
    offset = corners[:, 0] - corners[:, 1]
    far = np.abs(offset)
    horizontal = (far[:, 0] > far[:, 1]) | ((far[:, 0] == far[:, 1]) & (u < 0.5))
    return np.where(horizontal, np.where(offset[:, 0] < 0, 0, 1), np.where(offset[:, 1] < 0, 2, 3))
