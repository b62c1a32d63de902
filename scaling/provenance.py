"""Where a fit came from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a fit came from, enough to repeat it.

    Attributes:
        sources: files or study directories.
        n_rows: rows read.
        n_used: rows fitted.
        dropped: (reason, count) of the rows left out.
        columns: our column to the source's column.
        bootstrap: number of resamples.
        seed: seed of the resamples.
        cluster: what was resampled together ("row" or a column).
        data_unit: "samples" or "tokens".
        flops_per: k in C = k N D; None when compute is unknown.
        version: version of the package.
        created: ISO 8601 time.
        command: the command line.
    """

    sources: tuple[str, ...] = ()
    n_rows: int = 0
    n_used: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    columns: dict[str, str] = field(default_factory=dict[str, str])
    bootstrap: int = 0
    seed: int = 0
    cluster: str = "row"
    data_unit: str = "samples"
    flops_per: float | None = None
    version: str = ""
    created: str = ""
    command: str = ""
