"""The options of verbs that work on a fit: one read from fit.json, or one made from the points that are named."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx_scale.commands.point_options import PointOptions, command_line
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.sources import Loaded
    from scaling import FitResult


@contextmanager
def naming_sources(loaded: Loaded) -> Generator[None]:
    """Turn what a fit has against its points or options into an error that names where the points came from."""
    from scaling import FitInputError

    try:
        yield
    except FitInputError as error:
        origin = loaded.provenance
        raise InputError(f"{', '.join(origin.sources)} (data in {origin.data_unit}): {error}") from error


@dataclass(frozen=True, kw_only=True)
class FittedOptions(PointOptions):
    """Sources of points, and the law that is fitted to them."""

    law: str | None = None
    """Law to fit, one of parameters and data; see `prx-scale fit`. Default: the study's, else chinchilla."""
    bootstrap: int | None = None
    """Resamples behind the intervals; 0 leaves them out. Default: the study's, else 1000."""

    def fitted(self) -> tuple[FitResult, Loaded | None]:
        """The fit, and the points where it was made here.

        A single source called .json is a fit that `prx-scale fit --json` wrote; anything else is fitted.

        Raises:
            InputError: a source, option or file that cannot be used.
        """
        if any(source.endswith(".json") for source in self.sources):
            return self._read(), None
        loaded = self.load()
        return self.fit_points(loaded), loaded

    def _read(self) -> FitResult:
        import json

        from scaling import FitInputError, FitResult

        if len(self.sources) != 1:
            raise InputError(f"{', '.join(self.sources)}: a fit (.json) stands alone; give it without other sources")
        for name in ("columns", "where", "cluster", "law", "bootstrap", "level"):
            if getattr(self, name) not in (None, ()):
                raise InputError(f"--{name}: {self.sources[0]} is a finished fit; give the option to `prx-scale fit`")
        path = Path(self.sources[0])
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not JSON: {error}") from error
        if not isinstance(document, dict):
            raise InputError(f"{path}: not a fit as `prx-scale fit --json` writes it")
        try:
            return FitResult.from_json(document)  # pyright: ignore[reportUnknownArgumentType]
        except FitInputError as error:
            raise InputError(f"{path}: {error}") from error

    def fit_points(self, loaded: Loaded, **choices: Any) -> FitResult:
        """Fit what was loaded, with the study's law and resamples where none were asked for.

        Args:
            loaded: the points.
            **choices: further arguments of :func:`scaling.fit`.

        Raises:
            InputError: the points or an option cannot be used.
        """
        from prx_scale.runs.clock import now
        from scaling import fit

        table, origin = loaded.fit, loaded.provenance
        resamples = self.bootstrap if self.bootstrap is not None else (table.bootstrap if table else 1000)
        with naming_sources(loaded):
            return fit(
                loaded.points,
                law=self.law_for(loaded),
                bootstrap=resamples,
                level=self.level_for(loaded),
                seed=self.seed,
                flops_per=origin.flops_per,
                provenance=replace(origin, created=now(), command=command_line(sys.argv)),
                **choices,
            )

    def law_for(self, loaded: Loaded) -> str:
        """The law asked for, else the study's, else chinchilla."""
        return self.law or (loaded.fit.law if loaded.fit else "chinchilla")
