"""Exact captions: a short one in GenEval's wording and a long one that adds every colour and place."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.shapes.scenes import CANVAS, COLORS, RELATIONS, SHAPES, Scene, SceneObject
from prx_scale.errors import InputError


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return "crosses" if shape == "cross" else f"{shape}s"


NUMBERS = ("two", "three", "four")
MAX_TOKENS = 14
PADDING = 0
VOCABULARY: tuple[str, ...] = (
    "",
    "a",
    "and",
    *NUMBERS,
    *SHAPES,
    *(plural(name) for name in SHAPES),
    *COLORS,
    *sorted({word for relation in RELATIONS for word in relation.split()}),
    "top",
    "bottom",
    "center",
)
"""All words; a word's place is its token. Token 0 is padding."""

_TOKENS = {word: token for token, word in enumerate(VOCABULARY)}


def short_caption(scene: Scene) -> str:
    """What the scene's task family asks for and no more, as "three circles" or "a ring above a cross"."""
    first = scene.objects[0]
    if scene.task == "counting":
        return f"{NUMBERS[len(scene.objects) - 2]} {plural(first.shape)}"
    colored = scene.task in ("colors", "color_attr")
    names = [f"a {item.color} {item.shape}" if colored else f"a {item.shape}" for item in scene.objects]
    return f" {scene.relation or 'and'} ".join(names)


def long_caption(scene: Scene) -> str:
    """The same with the colour and place of every object, as "a red ring top left, above a blue cross bottom"."""
    if scene.task == "counting":
        parts = ", ".join(f"{item.color} {place(item)}" for item in scene.objects)
        return f"{short_caption(scene)}: {parts}"
    parts = [f"a {item.color} {item.shape} {place(item)}" for item in scene.objects]
    return (f", {scene.relation} " if scene.relation else " and ").join(parts)


def place(item: SceneObject) -> str:
    """In which ninth of the image an object's centre lies: "top left", "top", ... "center", ... "bottom right"."""
    x, y = item.center
    row = "top" if y < CANVAS / 3 else "bottom" if y > CANVAS * 2 / 3 else ""
    column = "left" if x < CANVAS / 3 else "right" if x > CANVAS * 2 / 3 else ""
    return f"{row} {column}".strip() or "center"


@lru_cache(maxsize=65536)
def _tokens(caption: str) -> tuple[int, ...]:
    words = caption.replace(",", " ").replace(":", " ").split()
    unknown = [word for word in words if word not in _TOKENS]
    if unknown:
        known = ", ".join(VOCABULARY[1:])
        raise InputError(f"caption {caption!r}: unknown word {unknown[0]!r}; the shapes vocabulary is {known}")
    if len(words) > MAX_TOKENS:
        raise InputError(f"caption {caption!r}: {len(words)} words, at most {MAX_TOKENS} are encoded")
    return tuple(_TOKENS[word] for word in words)


def tokenize(caption: str) -> NDArray[np.int64]:
    """Tokens of a caption, padded with 0.

    Args:
        caption: words of VOCABULARY; commas and colons are dropped; "" is the empty condition.

    Returns:
        (MAX_TOKENS,) tokens.

    Raises:
        InputError: a word is not in the vocabulary, or there are too many words.
    """
    tokens = np.full(MAX_TOKENS, PADDING, dtype=np.int64)
    found = _tokens(caption)
    tokens[: len(found)] = found
    return tokens
