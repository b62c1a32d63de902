"""``prx-scale fit --by``: one fit for every value of a column, in one table, one JSON document and a page each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.commands.point_options import write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling import FitResult

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class GroupFit:
    """The fit of one group.

    Attributes:
        values: column to the group's value.
        loaded: its points.
        result: their fit.
    """

    values: dict[str, str]
    loaded: Loaded
    result: FitResult

    @property
    def name(self) -> str:
        """The values, in the order of the columns."""
        return ", ".join(self.values.values())


def run_groups(loaded: Loaded, fit: Callable[[Loaded], FitResult], json: str | None, html: Path | None) -> int:
    """Fit every group, print the table, and write what was asked for.

    Args:
        loaded: points that know their groups.
        fit: fits the points of one group.
        json: file of the JSON document; ``-`` is standard output.
        html: file of a page; the group's name is put before its suffix.

    Returns:
        0 where at least one group could be fitted.

    Raises:
        InputError: none could.
    """
    fits, skipped = _fit_all(loaded, fit)
    write_json(_document(loaded, fits, skipped), json)
    pages = [] if html is None else _write_pages(fits, html)
    if json != "-":
        from prx_scale.commands.fit_groups_output import print_groups

        print_groups(fits, skipped, loaded)
        for path in ([json] if json else []) + [str(page) for page in pages]:
            print(f"wrote {path}")
    return 0


def _fit_all(
    loaded: Loaded, fit: Callable[[Loaded], FitResult]
) -> tuple[list[GroupFit], list[tuple[dict[str, str], str]]]:
    """The fits, and why each of the other groups has none."""
    fits: list[GroupFit] = []
    skipped: list[tuple[dict[str, str], str]] = []
    sources = ", ".join(loaded.provenance.sources)
    for values, group in loaded.groups():
        try:
            fits.append(GroupFit(values=values, loaded=group, result=fit(group)))
        except InputError as error:
            skipped.append((values, str(error).removeprefix(sources).lstrip(": ")))
    if not fits:
        listed = "".join(f"\n  {', '.join(values.values())}: {reason}" for values, reason in skipped)
        raise InputError(f"{sources}: no group of --by {','.join(loaded.by)} can be fitted:{listed}")
    return fits, skipped


def _document(
    loaded: Loaded, fits: Sequence[GroupFit], skipped: Sequence[tuple[dict[str, str], str]]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "by": list(loaded.by),
        "fits": [{"group": each.values, **each.result.to_json()} for each in fits],
        "skipped": [{"group": values, "reason": reason} for values, reason in skipped],
    }


def _write_pages(fits: Sequence[GroupFit], html: Path) -> list[Path]:
    from prx_scale.commands.pages import write_fit_page
    from prx_scale.sources.logs import unique_names

    slugs = unique_names([re.sub(r"[^\w.-]+", "-", each.name).strip("-") for each in fits])
    pages = [html.with_name(f"{html.stem}-{slug}{html.suffix}") for slug in slugs]
    for page, each in zip(pages, fits, strict=True):
        write_fit_page(page, each.result, each.loaded.points)
    return pages
