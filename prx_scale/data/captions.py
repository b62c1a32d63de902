"""Which of an image's captions is trained on: a weighted mix by kind, drawn by seed and sample number.

Dropout of captions and of encoders is no matter of captions: `[objective]` has it, and acts on text states.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.samples import ORIGINAL, Skip
from prx_scale.data.shapes.hashing import uniforms
from prx_scale.diffusion.draws import Purpose
from prx_scale.errors import InputError, nearest

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

CLASS = "class"
"""The kind of a caption that is made out of a sample's class."""
EMPTY = "empty"
"""The kind of the caption of a sample that has none, where that is trained on without a condition."""


@dataclass(frozen=True, kw_only=True)
class CaptionTable:
    """[captions]: which of an image's captions is trained on."""

    kinds: tuple[str, ...] = (ORIGINAL,)
    """Kinds that are drawn from; "class" is made out of the sample's class."""
    weights: tuple[float, ...] = (1.0,)
    """Their shares, in any unit, one for each. Kinds that a sample lacks leave theirs to the others."""
    templates: tuple[str, ...] = ("a photo of a {class}",)
    """For the kind "class"."""
    classes: str = field(default="", metadata={"place": True})
    """File with the names of the classes; empty where samples name theirs in words."""
    missing: Literal["skip", "empty"] = "skip"
    """A sample without any of the kinds is left out, or trained on with the empty caption."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption and its kind."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class CaptionMix:
    """A checked [captions] table, with the classes' names."""

    kinds: tuple[str, ...]
    weights: tuple[float, ...]
    templates: tuple[str, ...]
    missing: Literal["skip", "empty"] = "skip"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Names by label; a label that is not among them is taken for the names themselves."""

    def choose(
        self, captions: Mapping[str, str], label: str | None, *, seed: int, index: int
    ) -> Caption | Literal[Skip.NO_CAPTION]:
        """The caption of one sample.

        Args:
            captions: by kind; those of white space alone count as missing.
            label: the sample's class.
            seed: of the draw, below 2^55.
            index: what the draw belongs to: a place in training, or the sample's number where it has one caption for
                good.

        Returns:
            The caption, or why the sample is left out.
        """
        available = np.array([[self._has(each, captions, label) for each in self.kinds]])
        chosen = int(self.choose_kinds(available, seed=seed, indices=np.array([index]))[0])
        if chosen < 0:
            return Caption(kind=EMPTY, text="") if self.missing == "empty" else Skip.NO_CAPTION
        if self.kinds[chosen] == CLASS and label is not None:
            _, name, template = _draws(seed, np.array([index]))[0]
            text = class_caption(self.names_of(label), self.templates, float(name), float(template))
            return Caption(kind=CLASS, text=text)
        return Caption(kind=self.kinds[chosen], text=captions[self.kinds[chosen]])

    def choose_kinds(self, available: Mask, *, seed: int, indices: Numbers) -> Numbers:
        """The kinds that `choose` takes, for samples whose captions are stored by kind.

        Args:
            available: (B, K) which of `kinds` a sample has.
            seed: of the draws.
            indices: (B,) what they belong to.

        Returns:
            (B,) places in `kinds`, -1 where a sample has none.
        """
        return draw_kinds(available, self.weights, _draws(seed, indices)[:, 0])

    def names_of(self, label: str) -> tuple[str, ...]:
        """The names of a class.

        Args:
            label: as the sample has it: the key of a class, or its names with commas between them.
        """
        return self.classes.get(label.strip()) or _split(label)

    def _has(self, kind: str, captions: Mapping[str, str], label: str | None) -> bool:
        if kind == CLASS:
            return label is not None and bool(self.names_of(label))
        return bool(captions.get(kind, "").strip())


def _draws(seed: int, indices: Numbers) -> Floats:
    """(B, 3) uniform numbers: for the kind, the class's name and the template."""
    return uniforms((seed << 8) | Purpose.CAPTIONS, indices, 3)


def draw_kinds(available: Mask, weights: Sequence[float], uniform: Floats) -> Numbers:
    """A kind for each of B samples, among those that it has, with shares in proportion to the weights.

    Args:
        available: (B, K) which kinds a sample has.
        weights: K shares, in any unit.
        uniform: (B,) in [0, 1).

    Returns:
        (B,) numbers of kinds; -1 where a sample has none of any weight.
    """
    ends = np.cumsum(np.where(available, np.asarray(weights, dtype=np.float64), 0.0), axis=1)
    total = ends[:, -1]
    # The first end above the draw is that of a kind with weight.
    return np.where(total > 0, np.argmax(ends > (uniform * total)[:, None], axis=1), -1).astype(np.int64)


def class_caption(names: Sequence[str], templates: Sequence[str], name: float, template: float) -> str:
    """A random name of a class in a random template.

    Args:
        names: of the class, at least one.
        templates: with {class} where the name goes, at least one.
        name: uniform in [0, 1).
        template: uniform in [0, 1).
    """
    chosen = templates[int(template * len(templates))]
    return chosen.replace("{class}", names[int(name * len(names))])


def caption_mix(table: CaptionTable, where: str = "[captions]", folder: Path | None = None) -> CaptionMix:
    """Check a [captions] table and read its classes.

    Args:
        table: as parsed.
        where: file and table, for errors.
        folder: that a relative `classes` is taken from; by default the current one.

    Raises:
        InputError: names the key, what is wrong with it and what would be right.
    """
    kinds, weights = table.kinds, table.weights
    if not kinds or len(set(kinds)) != len(kinds):
        raise InputError(f"{where} kinds: {list(kinds)} must be at least one kind, each once")
    if EMPTY in kinds:
        raise InputError(f"{where} kinds: '{EMPTY}' is no kind of caption; missing = \"empty\" trains without any")
    if len(weights) != len(kinds):
        raise InputError(f"{where} weights: {len(weights)} for {len(kinds)} kinds; one for each")
    if any(not 0 < weight < float("inf") for weight in weights):
        raise InputError(f"{where} weights: {list(weights)} must all be above 0; leave a kind out instead")
    _check_templates(table, where)
    classes = read_classes((folder or Path()) / table.classes, f"{where} classes") if table.classes else {}
    return CaptionMix(kinds=kinds, weights=weights, templates=table.templates, missing=table.missing, classes=classes)


def _check_templates(table: CaptionTable, where: str) -> None:
    if CLASS in table.kinds and not table.templates:
        raise InputError(f"{where} templates: an empty list; the kind '{CLASS}' needs at least one")
    for template in table.templates:
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        except ValueError:
            fields = []
        if fields != [CLASS]:
            raise InputError(f"{where} templates: {template!r} must have {{class}} once, and no other braces")


def check_kinds(mix: CaptionMix, known: Iterable[str], where: str = "[captions]") -> None:
    """Refuse kinds that no sample of a dataset has, where all kinds are known.

    Args:
        mix: the table.
        known: kinds of the dataset, `CLASS` among them where it has classes.
        where: file and table, for errors.

    Raises:
        InputError: names the kind and the nearest that there is.
    """
    there = sorted(set(known))
    for kind in mix.kinds:
        if kind not in there:
            raise InputError(f"{where} kinds: no caption of the data is of the kind '{kind}'; {nearest(kind, there)}")


def read_classes(file: Path, where: str) -> dict[str, tuple[str, ...]]:
    """The names of classes by label.

    Args:
        file: JSON with an object of label to name or list of names, or a text with a class on each line, names
            separated by commas; then labels are the numbers of the lines, from 0.
        where: file, table and key, for errors.

    Raises:
        InputError: the file is missing or neither of the two, or a class has no name.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: {file} cannot be read: {error}") from error
    if file.suffix == ".json":
        classes = _classes_of_json(text, f"{where}: {file}")
    else:
        classes = {str(number): _split(line) for number, line in enumerate(text.splitlines())}
    for label, names in classes.items():
        if not names:
            raise InputError(f"{where}: {file}: the class {label} has no name")
    return classes


def _classes_of_json(text: str, where: str) -> dict[str, tuple[str, ...]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    classes: dict[str, tuple[str, ...]] = {}
    for label, names in cast("dict[str, Any]", content).items() if isinstance(content, dict) else [("", None)]:
        listed = [names] if isinstance(names, str) else names
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in cast("list[Any]", listed)):
            raise InputError(f'{where}: expected {{"label": "name"}} or {{"label": ["name", "name"]}}')
        stripped = (name.strip() for name in cast("list[str]", listed))
        classes[label] = tuple(name for name in stripped if name)
    return classes


def _split(names: str) -> tuple[str, ...]:
    return tuple(part for name in names.split(",") if (part := name.strip()))
