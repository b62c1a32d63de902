"""Results as JSON types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite_json(value: Any) -> Any:
    """Nested mappings, lists and tuples as JSON types; numbers that are not finite become None."""
    if isinstance(value, float):  # first, because nearly all of a document are draws
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_json(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [finite_json(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return value
