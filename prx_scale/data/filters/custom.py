"""Scorers of the user's own: `NAME=module:callable` or `NAME=file.py:callable`.

The callable takes a list of `Seen` samples, each with its pixels and captions, and returns a number, or None, for
each. A class is made without arguments first, so that it can load a model. Two attributes of the callable are heeded:
`side`, how many pixels the shorter side of an image needs, 256 without it; and `text`, true if it gives text, to weight
by.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from prx_scale.data.filters.base import Columns, Scorer, Seen, Value
from prx_scale.errors import InputError

SIDE = 256
RIGHT = "right is NAME=module:callable, as in watermark=scorers.py:Watermark"


@dataclass(frozen=True, kw_only=True)
class _AsItIs:
    side: int

    def __call__(self, seen: Seen) -> Seen:
        return seen


class CustomScorer(Scorer):
    """Calls what the user gave.

    Args:
        name: of the score.
        place: `module:callable`.

    Raises:
        InputError: there is no such callable, or it cannot be made.
    """

    def __init__(self, name: str, place: str) -> None:
        module, function = load(name, place)
        self.name, self.place = f"{name} ({place})", place
        self.columns = {name: "text" if getattr(function, "text", False) else "float"}
        self._column, self._function = name, function
        self.prepare = _AsItIs(side=int(getattr(function, "side", SIDE)))
        code = Path(inspect.getfile(module)).read_bytes()
        self.identity = {"scorer": "custom", "callable": place.rpartition(":")[2], "sha256": _digest(code)}

    def score(self, prepared: Sequence[Seen]) -> Columns:
        """The scores of samples.

        Raises:
            InputError: the callable failed, or did not give one value a sample.
        """
        try:
            values = list(self._function(list(prepared)))
        except Exception as error:
            first = prepared[0].sample.key if prepared else "no samples"
            what = f"{type(error).__name__}: {error}"
            raise InputError(f"--scorer {self.name}: {what}, for {len(prepared)} samples from {first}") from error
        if len(values) != len(prepared):
            raise InputError(f"--scorer {self.name}: gave {len(values)} values for {len(prepared)} samples")
        return {self._column: [self._checked(value) for value in values]}

    def _checked(self, value: Any) -> Value:
        if value is None:
            return None
        if self.columns[self._column] == "text":
            return str(value)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"--scorer {self.name}: gave {value!r:.60}, which is no number; a scorer of text has text = True"
            ) from error
        return number if math.isfinite(number) else None


def load(name: str, place: str) -> tuple[ModuleType, Callable[[list[Seen]], Sequence[Any]]]:
    """The module and the callable that a place names.

    Args:
        name: of the score, for messages.
        place: `module:callable`, or `file.py:callable`.

    Raises:
        InputError: there is no such module or callable, or making it fails.
    """
    where, colon, attribute = place.rpartition(":")
    if not colon or not where or not attribute:
        raise InputError(f"--scorer {name}={place}: {RIGHT}")
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        found = getattr(module, attribute)
        made: Any = found() if isinstance(found, type) else found
    except Exception as error:
        raise InputError(f"--scorer {name}={place}: {type(error).__name__}: {error}; {RIGHT}") from error
    if not callable(made):
        raise InputError(f"--scorer {name}={place}: {attribute} is a {type(made).__name__}, not a callable")
    return module, cast("Callable[[list[Seen]], Sequence[Any]]", made)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    described = importlib.util.spec_from_file_location(f"prx_scale_scorer_{path.stem}", path)
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[described.name] = module
    described.loader.exec_module(module)
    return module


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
