"""Which column is what: usual names are guessed, every guess is shown, and ``--columns`` overrides it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prx_scale.commands.text import parse_quantity
from prx_scale.errors import InputError, nearest
from scaling.columns import OPTIONAL, SYNONYMS, candidates

ALIASES = {"tokens": "data", "samples": "data"}
"""Keys of ``--columns`` that say with the column what it counts."""

_MAGNITUDE = re.compile(r"(?:^|[_(/ ])(?P<unit>k|m|b|t|thousands?|millions?|billions?|trillions?)\)?$", re.IGNORECASE)
_KINDS = {"params": ("param", "model", "size"), "data": ("token", "sample", "image", "data")}


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one of our columns is read from: a product of the source's columns and of numbers.

    Attributes:
        text: as the user wrote it, or the name that was guessed.
        names: the source's columns in it; none for a constant.
        factor: product of its numbers.
        guessed: nobody asked for it by name.
    """

    text: str
    names: tuple[str, ...]
    factor: float = 1.0
    guessed: bool = False


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Read ``params=n_params,loss=val/loss``; several texts add up.

    Raises:
        InputError: a part is not KEY=COLUMN.
    """
    pairs: dict[str, str] = {}
    for part in ",".join(texts).split(",") if texts else []:
        key, sign, column = part.partition("=")
        if not sign or not key.strip() or not column.strip():
            raise InputError(f"--columns {part}: expected KEY=COLUMN, for example params=n_params")
        pairs[key.strip()] = column.strip()
    return pairs


def check_keys(chosen: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """The chosen columns under our own names, and the unit of data where the key said it.

    Raises:
        InputError: a key that is none of ours, or data chosen twice.
    """
    plain: dict[str, str] = {}
    unit: str | None = None
    for key, text in chosen.items():
        ours = ALIASES.get(key, key)
        if ours not in SYNONYMS:
            hint = nearest(key, [*SYNONYMS, *ALIASES])
            raise InputError(f"--columns {key}={text}: '{key}' is not a column of a fit; {hint}")
        if ours in plain:
            raise InputError(f"--columns {key}={text}: '{ours}' is chosen twice; choose it once")
        plain[ours] = text
        unit = key if key in ALIASES else unit
    return plain, unit


def find(
    names: Sequence[str], chosen: Mapping[str, str], defaults: Mapping[str, str], source: str
) -> tuple[dict[str, Column], list[str]]:
    """What every one of our columns is read from.

    Args:
        names: the source's columns.
        chosen: our column to what the user wants it read from.
        defaults: our column to the source's, for sources whose columns are known.
        source: its name, for messages.

    Returns:
        Our column to the source's, without those that the source does not have, and what was ambiguous.

    Raises:
        InputError: a chosen column that is not there, or no column for the loss or for any axis.
    """
    found: dict[str, Column] = {}
    notices: list[str] = []
    for key in SYNONYMS:
        if key in chosen:
            if not (key == "cluster" and chosen[key] == "row"):
                found[key] = _chosen(names, key, chosen[key], source)
        elif key in defaults:
            found[key] = Column(text=defaults[key], names=(defaults[key],), guessed=True)
        elif hits := candidates(names, key):
            first, *others = hits
            found[key] = Column(text=first, names=(first,), guessed=True)
            if others and key not in OPTIONAL:
                also = " and ".join(f"'{name}'" for name in others)
                notices.append(f"{source}: {key} is read from '{first}', not from {also}; choose with --columns {key}=")
    axes = [key for key in ("params", "data", "flops", "steps") if key in found]
    if "loss" not in found or not axes:
        missing = [key for key in ("loss", *(() if axes else ("params", "data"))) if key not in found]
        raise InputError(_missing(names, missing, source))
    return found, notices


def cluster_column(names: Sequence[str], chosen: Mapping[str, str]) -> str | None:
    """The column that says which rows are one run, if there is one."""
    if "cluster" in chosen:
        return chosen["cluster"] if chosen["cluster"] in names else None
    return next(iter(candidates(names, "cluster")), None)


def size_hint(names: Iterable[str], key: str) -> str | None:
    """How to read a column such as ``params_m``, whose name counts in millions, as one of our columns."""
    for name in names:
        match = _MAGNITUDE.search(name)
        if match and any(kind in name.lower() for kind in _KINDS.get(key, ())):
            unit = match["unit"][0].upper()
            return f"if '{name}' counts in units of 1{unit}, write --columns {key}={name}*1{unit}"
    return None


def _chosen(names: Sequence[str], key: str, text: str, source: str) -> Column:
    if text in names:
        return Column(text=text, names=(text,))
    option = f"--cluster {text}" if key == "cluster" else f"--columns {key}={text}"
    factor, used = 1.0, list[str]()
    for part in (piece.strip() for piece in text.split("*")):
        if part in names:
            used.append(part)
        elif key != "cluster" and part[:1].isdigit():
            factor *= parse_quantity(part, f"{source}: {option}")
        else:
            raise InputError(f"{source}: no column '{part}' ({option}); {nearest(part, names)}")
    return Column(text=text, names=tuple(used), factor=factor)


def _missing(names: Sequence[str], missing: Sequence[str], source: str) -> str:
    parts = [f"no column for {key} (looked for {', '.join(SYNONYMS[key])})" for key in missing]
    hint = size_hint(names, missing[0]) or nearest(missing[0], names)
    return f"{source}: {'; '.join(parts)}. Name it with --columns {missing[0]}=COLUMN; {hint}"
