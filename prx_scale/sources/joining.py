"""One set of points of all sources, and the points of one group of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prx_scale.errors import InputError
from prx_scale.sources.columns import SYNONYMS
from prx_scale.sources.reading import SEPARATOR, Part
from scaling.columns import FLOPS_PER_TOKEN

if TYPE_CHECKING:
    import polars as pl

    from prx_scale.study import FitTable
    from scaling import Points, Provenance

_LARGE = 50_000


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Points with everything a reader wants to know about them.

    Attributes:
        points: what goes into the fit.
        provenance: files, columns, counts.
        notices: what was assumed, in sentences.
        fit: the [fit] table of the study, when the source is one.
        by: the columns by which fits are to be split.
        group: the values of those columns for every point, joined by ``SEPARATOR``, shape (n,); None without any.
    """

    points: Points
    provenance: Provenance
    notices: tuple[str, ...]
    fit: FitTable | None
    by: tuple[str, ...] = ()
    group: npt.NDArray[np.str_] | None = None

    def groups(self) -> list[tuple[dict[str, str], Loaded]]:
        """Every group, as column to value, with its points alone; in order of the values."""
        if self.group is None:
            return []
        names = [str(name) for name in np.unique(self.group)]
        values = [dict(zip(self.by, name.split(SEPARATOR), strict=True)) for name in names]
        return [(value, self._only(self.group == name, value)) for name, value in zip(names, values, strict=True)]

    def _only(self, mask: npt.NDArray[np.bool_], values: dict[str, str]) -> Loaded:
        other = f"not {' and '.join(f'{column}={value}' for column, value in values.items())}"
        dropped = (*self.provenance.dropped, (other, int((~mask).sum())))
        provenance = replace(self.provenance, n_used=int(mask.sum()), dropped=dropped)
        return replace(self, points=self.points.take(mask), provenance=provenance, by=(), group=None)


def join(parts: Sequence[Part], by: tuple[str, ...]) -> Loaded:
    """The points of all sources together.

    Args:
        parts: what each source gave.
        by: the columns by which fits are to be split.

    Raises:
        InputError: sources count data differently.
    """
    from prx_scale import __version__
    from scaling import Points, Provenance

    unit = _unit(parts)
    keys = [key for key in SYNONYMS if all(key in part.numbers for part in parts)]
    clustered = all(part.cluster is not None for part in parts)
    columns = {key: column for part in reversed(parts) for key, column in part.columns.items()}
    points = Points(
        **{key: np.concatenate([part.numbers[key] for part in parts]) for key in keys},
        cluster=_clusters(parts) if clustered else None,
    )
    provenance = Provenance(
        sources=tuple(part.name for part in parts),
        n_rows=sum(part.n_rows for part in parts),
        n_used=points.n,
        dropped=_dropped(parts),
        columns={key: columns[key] for key in SYNONYMS if key in columns},
        cluster=columns.get("cluster", "row") if clustered else "row",
        data_unit=unit,
        flops_per=FLOPS_PER_TOKEN if unit == "tokens" else None,
        version=__version__,
    )
    notices = [notice for part in parts for notice in part.notices]
    if points.n > _LARGE and (runs := points.n_clusters) < points.n:
        notices.append(
            f"{points.n} points of {runs} runs: checkpoints of one run add little once they are many; --last"
            " keeps the final loss of every run, --thin 20 twenty rows of each"
        )
    return Loaded(
        points=points,
        provenance=provenance,
        notices=tuple(notices),
        fit=parts[0].fit,
        by=by,
        group=np.concatenate([_texts(part.group) for part in parts if part.group is not None]) if by else None,
    )


def _unit(parts: Sequence[Part]) -> str:
    units = {part.unit for part in parts}
    if len(units) > 1:
        listed = ", ".join(f"{part.name} counts {part.unit}" for part in parts)
        raise InputError(f"sources count data differently ({listed}): fit them apart, or name one with --columns data=")
    return units.pop()


def _clusters(parts: Sequence[Part]) -> npt.NDArray[np.str_]:
    """Names of runs, those of different sources kept apart."""
    if len(parts) == 1 or all(part.columns["cluster"] == "file" for part in parts):
        return np.concatenate([_texts(part.cluster) for part in parts if part.cluster is not None])
    return np.concatenate([_texts(f"{part.name}:" + part.cluster) for part in parts if part.cluster is not None])


def _dropped(parts: Sequence[Part]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for reason, count in (item for part in parts for item in part.dropped):
        counts[reason] = counts.get(reason, 0) + count
    return tuple(counts.items())


def _texts(column: pl.Series) -> npt.NDArray[np.str_]:
    import polars as pl

    distinct = column.unique()  # a million rows have few runs: Python sees each name once
    codes = column.cast(pl.Enum(distinct)).to_physical().to_numpy()
    return np.array(distinct.to_list(), dtype=np.str_)[codes]
