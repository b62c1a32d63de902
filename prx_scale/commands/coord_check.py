"""``prx-scale coord-check``: whether activations move as much at every width."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from prx_scale.commands.point_options import command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.config import RunConfig
    from scaling.coordinates import Coordinate, Slope


@dataclass(frozen=True, kw_only=True)
class CoordCheck:
    """Measure how far activations move in a few steps at several widths, with and without muP.

    Where they move as much at every width, a learning rate tuned at a small one can be used at a large one. Takes the
    model, optimiser, learning rate, batch and data of a run, and replaces its width. Exit code: 0 whatever was found.

    Example: prx-scale coord-check examples/study.toml --run d1-s0

    Example: prx-scale coord-check study.toml --widths 64,128,256,512 --steps 8 --seeds 2 --html check.html
    """

    study: tyro.conf.Positional[Path]
    """A study file, or a study folder that has a study.toml."""
    run_id: Annotated[str | None, tyro.conf.arg(name="run")] = None
    """Run id, or an unambiguous beginning of one; not needed where the study has a single run."""
    widths: str = "64,128,256"
    """Widths, multiples of 64, with commas between them."""
    base: Annotated[int | None, tyro.conf.arg(metavar="WIDTH")] = None
    """Base width of muP; by default the run's mup_base_width, else the smallest of the widths."""
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Optimiser steps; the first moves only the last projection, and everything moves from the third on."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Repetitions, each with initial weights and noise of its own."""
    json: str | None = None
    """Write all that was measured as JSON to this file; - writes it, and nothing else, to standard output."""
    html: Path | None = None
    """Write a self-contained HTML page with charts to this file."""

    def run(self) -> int:
        """Check, print, and write what was asked for; 0 on success.

        Raises:
            InputError: the study or an option that cannot be used.
        """
        from prx_scale import study
        from scaling.coordinates import slopes

        widths = self._widths()
        chosen = study.load(self.study).run(self.run_id)
        base = self.base or chosen.model.mup_base_width or min(widths)
        if base % 64 or base < 0:
            raise InputError(f"--base {base}: not a multiple of 64, the width of a head")
        if self.steps < 3:
            raise InputError(f"--steps {self.steps}: at least 3; before that, what stands behind gates has not moved")
        if self.seeds < 1:
            raise InputError(f"--seeds {self.seeds}: at least 1")
        rows = self._measured(chosen, widths, base)
        found = slopes(rows)
        write_json(self._document(chosen, base, rows, found), self.json)
        if self.html is not None:
            from prx_scale.runs.files import write_atomically
            from reports.coordinates_page import render_coordinates_page

            write_atomically(self.html, render_coordinates_page(rows, chosen.study, base))
        if self.json != "-":
            _print(found, widths, base)
            for path in (self.json, self.html):
                if path is not None:
                    print(f"wrote {path}")
        return 0

    def _widths(self) -> list[int]:
        words = [word.strip() for word in self.widths.split(",")]
        if not all(word.isdigit() and int(word) and int(word) % 64 == 0 for word in words):
            raise InputError(f"--widths {self.widths}: multiples of 64 with commas between them, as in 64,128,256")
        widths = sorted({int(word) for word in words})
        if len(widths) < 2:
            raise InputError(f"--widths {self.widths}: at least two different ones")
        return widths

    def _measured(self, chosen: RunConfig, widths: list[int], base: int) -> list[Coordinate]:
        from rich.console import Console

        from prx_scale.training.coordcheck import coordinate_check

        with Console(stderr=True).status("building") as status:
            return coordinate_check(
                chosen, widths=widths, base_width=base, steps=self.steps, seeds=self.seeds, show=status.update
            )

    def _document(self, run: RunConfig, base: int, rows: list[Coordinate], found: list[Slope]) -> dict[str, Any]:
        from prx_scale import __version__
        from prx_scale.runs.clock import now

        return {
            "schema": 1,
            "base_width": base,
            "slopes": [{**asdict(each), "flat": each.flat} for each in found],
            "rows": [asdict(row) for row in rows],
            "config": run.to_json(),
            "provenance": {"version": __version__, "created": now(), "command": command_line(sys.argv)},
        }


def _print(found: list[Slope], widths: list[int], base: int) -> None:
    """The table of slopes, and a sentence for each parametrisation."""
    from rich.table import Table

    from prx_scale.commands.text import plain_console
    from scaling.coordinates import BAND, Scheme, steepest

    console = plain_console()
    console.print(f"change of activations ~ width^slope, widths {', '.join(map(str, widths))}, muP from width {base}")
    table = Table(box=None, pad_edge=False)
    table.add_column("activation")
    for heading in ("standard", f"at {widths[0]}", f"at {widths[-1]}", "muP", f"at {widths[0]}", f"at {widths[-1]}"):
        table.add_column(heading, justify="right")
    by_key = {(each.scheme, each.quantity): each for each in found}
    for quantity in dict.fromkeys(each.quantity for each in found):
        cells: list[str] = []
        for scheme in ("standard", "muP"):
            each = by_key.get((scheme, quantity))
            cells += (
                ["", "", ""] if each is None else [f"{each.slope:+.2f}", f"{each.smallest:.3g}", f"{each.largest:.3g}"]
            )
        table.add_row(quantity, *cells)
    console.print(table)
    schemes: tuple[Scheme, ...] = ("standard", "muP")
    for scheme in schemes:
        worst = steepest(found, scheme)
        if worst is not None:
            word = "flat" if worst.flat else "not flat"
            console.print(f"{scheme}: {word} (within ±{BAND:g}); steepest {worst.slope:+.2f}, {worst.quantity}")
