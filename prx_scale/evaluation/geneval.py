"""GenEval's prompts and decision rule (Ghosh, Hajishirzi and Schmidt, 2023, arXiv 2310.11513), for any detector.

The rule reproduces the official evaluation code on detections; the detector and the colour classifier are the
caller's. Scores are in `prx_scale.evaluation.geneval_scores`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from prx_scale.errors import InputError, nearest

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One found object: class name, box (x1, y1, x2, y2) with y downward, score, and colour if it was classified."""

    name: str
    box: Box
    score: float
    color: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Constants of the decision; the defaults are those of the official Mask2Former evaluation.

    Args:
        threshold: keep detections that score strictly more.
        counting_threshold: the same for prompts with the tag "counting".
        max_objects: best-scored detections kept per class.
        max_overlap: per-class non-maximum suppression keeps boxes with a smaller IoU; 1 turns it off.
        position_margin: share of the two boxes' sizes by which centres may differ without a relation.
    """

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0
    position_margin: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Item:
    """`count` objects of one class, perhaps of a colour, perhaps in a relation to the item number `relative_to`."""

    name: str
    count: int
    color: str | None = None
    relation: str | None = None
    relative_to: int = 0

    def to_json(self) -> dict[str, Any]:
        """The item as GenEval's metadata writes it."""
        row: dict[str, Any] = {"class": self.name, "count": self.count}
        if self.color is not None:
            row["color"] = self.color
        if self.relation is not None:
            row["position"] = [self.relation, self.relative_to]
        return row


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One line of GenEval's metadata: what an image of `prompt` must include and must not reach."""

    tag: str
    prompt: str
    include: tuple[Item, ...]
    exclude: tuple[Item, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The prompt as GenEval's metadata writes it."""
        row: dict[str, Any] = {"tag": self.tag, "include": [item.to_json() for item in self.include]}
        if self.exclude:
            row["exclude"] = [item.to_json() for item in self.exclude]
        return row | {"prompt": self.prompt}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an image is correct, and if not, why: GenEval's failure messages, one per line."""

    correct: bool
    reason: str = ""


def parse_prompt(row: object, where: str = "prompt") -> Prompt:
    """Read one metadata object.

    Args:
        row: the decoded JSON.
        where: file and line, for messages.

    Raises:
        InputError: a field is missing, unknown or of the wrong type.
    """
    fields = _mapping(row, where, required={"tag", "prompt", "include"}, optional={"exclude"})
    include = _items(fields["include"], f"{where}: include")
    if not include:
        raise InputError(f"{where}: include is empty; name at least one object")
    for number, item in enumerate(include):
        if item.relation is not None and not 0 <= item.relative_to < number:
            raise InputError(f"{where}: include[{number}] must refer to an earlier item, not {item.relative_to}")
    exclude = _items(fields.get("exclude", []), f"{where}: exclude")
    return Prompt(tag=str(fields["tag"]), prompt=str(fields["prompt"]), include=include, exclude=exclude)


def read_prompts(path: Path) -> list[Prompt]:
    """Read a metadata file; the line number (from 0) is the prompt id.

    Raises:
        InputError: the file is missing, or a line is no valid prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read GenEval metadata: {error.strerror}") from error
    prompts: list[Prompt] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON: {error.msg}") from error
        prompts.append(parse_prompt(row, f"{path}, line {number}"))
    return prompts


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """Write a metadata file in GenEval's format, one prompt per line."""
    path.write_text("".join(json.dumps(prompt.to_json()) + "\n" for prompt in prompts), encoding="utf-8")


def _mapping(row: object, where: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    fields = cast(dict[str, Any], row)
    missing, unknown = required - fields.keys(), fields.keys() - required - optional
    if missing:
        raise InputError(f"{where}: missing {', '.join(sorted(missing))}")
    if unknown:
        raise InputError(f"{where}: unknown field {min(unknown)!r}; {nearest(min(unknown), required | optional)}")
    return fields


def _items(value: object, where: str) -> tuple[Item, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list, got {type(value).__name__}")
    rows = cast(list[object], value)
    return tuple(_item(row, f"{where}[{number}]") for number, row in enumerate(rows))


def _item(row: object, where: str) -> Item:
    fields = _mapping(row, where, required={"class", "count"}, optional={"color", "position"})
    count, color = fields["count"], fields.get("color")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"{where}: count must be a positive integer, not {count!r}")
    if color is not None and color not in COLORS:
        raise InputError(f"{where}: unknown color {color!r}; {nearest(str(color), COLORS)}")
    relation, target = _position(fields["position"], where) if "position" in fields else (None, 0)
    return Item(name=str(fields["class"]), count=count, color=color, relation=relation, relative_to=target)


def _position(value: object, where: str) -> tuple[str, int]:
    match value:
        case [str() as relation, int() as target] if relation in RELATIONS:
            return relation, target
        case [str() as relation, int()]:
            raise InputError(f"{where}: unknown relation {relation!r}; {nearest(relation, RELATIONS)}")
        case _:
            raise InputError(f"{where}: position must be [relation, index of an earlier item], not {value!r}")


def relations(a: Box, b: Box, margin: float = 0.1) -> frozenset[str]:
    """The relations that box `a` holds to box `b`: none, one, or two (as "left of" and "above").

    With centre offset o = c_a - c_b and summed sizes s per axis, r = sign(o) max(|o| - margin s, 0); a relation
    holds where a component of r / ||o|| exceeds one half. `margin` is a share of the sizes, not an IoU.
    """
    low_a, high_a, low_b, high_b = (np.asarray(corner, dtype=float) for corner in (a[:2], a[2:], b[:2], b[2:]))
    offset = (low_a + high_a - low_b - high_b) / 2
    size = high_a - low_a + high_b - low_b
    revised = np.sign(offset) * np.maximum(np.abs(offset) - margin * size, 0)
    if np.all(np.abs(revised) < 1e-3):
        return frozenset()
    dx, dy = revised / np.linalg.norm(offset)
    held = zip(RELATIONS, (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5), strict=True)
    return frozenset(name for name, true in held if true)


def _iou(a: Box, b: Box) -> float:
    """Intersection over union with the one-pixel-wider boxes of the official code."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = sum((x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b))
    return shared / (areas - shared)


def select(detections: Iterable[Detection], tag: str, rules: Rules) -> dict[str, list[Detection]]:
    """The detections that count, per class, best first: above the threshold, not too many, not overlapping."""
    threshold = rules.counting_threshold if tag == "counting" else rules.threshold
    best = sorted((d for d in detections if d.score > threshold), key=lambda d: -d.score)
    groups: dict[str, list[Detection]] = {}
    for detection in best:
        groups.setdefault(detection.name, []).append(detection)
    return {name: _suppress(group[: rules.max_objects], rules.max_overlap) for name, group in groups.items()}


def _suppress(group: list[Detection], max_overlap: float) -> list[Detection]:
    if max_overlap >= 1:
        return group
    kept: list[Detection] = []
    for detection in group:
        if all(_iou(detection.box, other.box) < max_overlap for other in kept):
            kept.append(detection)
    return kept


def judge(prompt: Prompt, detections: Iterable[Detection], rules: Rules | None = None) -> Verdict:
    """Decide whether an image with these detections satisfies the prompt.

    Args:
        prompt: what is required.
        detections: everything found, in any order; `color` must be set where the prompt asks for a colour.
        rules: thresholds; the official ones by default.
    """
    rules = rules or Rules()
    found = select(detections, prompt.tag, rules)
    reasons: list[str] = []
    groups: list[list[Detection] | None] = []
    for item in prompt.include:
        kept = found.get(item.name, [])[: item.count]
        failures = _failures(item, kept, groups, rules)
        groups.append(None if failures else kept)
        reasons += failures
    for item in prompt.exclude:
        number = len(found.get(item.name, []))
        if number >= item.count:
            reasons.append(f"expected {item.name}<{item.count}, found {number}")
    return Verdict(correct=not reasons, reason="\n".join(reasons))


def _failures(
    item: Item, kept: Sequence[Detection], groups: Sequence[list[Detection] | None], rules: Rules
) -> list[str]:
    if len(kept) < item.count:
        return [f"expected {item.name}>={item.count}, found {len(kept)}"]
    if item.color is not None:
        counts = Counter(detection.color or "unclassified" for detection in kept)
        if counts[item.color] < item.count:
            seen = ", ".join(f"{counts[color]} {color}" for color in (*COLORS, "unclassified") if counts[color])
            wanted = f"{item.color} {item.name}>={item.count}"
            return [f"expected {wanted}, found {counts[item.color]} {item.color}; and {seen}"]
    if item.relation is not None:
        return _misplaced(item, item.relation, kept, groups[item.relative_to], rules.position_margin)
    return []


def _misplaced(
    item: Item, relation: str, kept: Sequence[Detection], targets: Sequence[Detection] | None, margin: float
) -> list[str]:
    if targets is None:
        return [f"no target for {item.name} to be {relation}"]
    for detection in kept:
        for target in targets:
            held = relations(detection.box, target.box, margin)
            if relation not in held:
                seen = " and ".join(name for name in RELATIONS if name in held)
                return [f"expected {item.name} {relation} target, found {seen} target"]
    return []
