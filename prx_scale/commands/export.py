"""`prx-scale export`: a run's weights as diffusers, Stability's reference, or another run reads them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.config import RunConfig
    from prx_scale.models.convert.exporting import Exported
    from prx_scale.models.convert.layouts import Layout
    from prx_scale.models.convert.pipeline import Component
    from prx_scale.runs.info import RunInfo

MARKER = "export.json"
"""Says where an exported folder came from, and that it may be replaced."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a checkpoint's weights as a diffusers pipeline, a file in Stability's layout, or a folder to start from.

    Example: prx-scale export ladder/runs/d2-s0-7ebe255e --format diffusers

    Example: prx-scale export ladder/runs/d2-s0-7ebe255e --format prx --out weights --weights raw
    """

    run_dir: tyro.conf.Positional[Path]
    """The run's folder, STUDY/runs/ID."""
    format: Literal["diffusers", "stability", "prx"]
    """diffusers: a StableDiffusion3Pipeline folder. stability: model.safetensors in the reference's layout. prx: a
    folder that another run can start from."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder to write; by default RUN/export/FORMAT-STEP-WEIGHTS."""
    step: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """The checkpoint; by default the latest."""
    weights: Literal["ema", "raw"] = "ema"
    """Averaged weights, or those of the optimiser."""
    components: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PIPELINE|NAME=DIR ...")] = ()
    """For diffusers: what to copy in. All of a pipeline folder, or vae=DIR, text_encoder=DIR, tokenizer=DIR and their
    numbered kin; what is not named is null."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """For a model with size_conditioning, in the published formats, which have none: what it makes of whole images of
    N x N pixels becomes part of its weights."""
    overwrite: bool = False
    """Replace a folder that this verb wrote before."""

    def run(self) -> int:
        """Export the checkpoint.

        Raises:
            InputError: there is no such run or checkpoint, the format cannot hold it, or the folder is taken.
        """
        from prx_scale.commands.children import quiet_threads
        from prx_scale.commands.text import plain_console
        from prx_scale.study import run_from_json

        quiet_threads()
        if self.components and self.format != "diffusers":
            raise InputError(f"--components: only --format diffusers has components, not {self.format}")
        if self.image_size is not None and self.format == "prx":
            raise InputError("--image-size: the prx format holds the embedder of sizes whole; leave it out")
        info = one_run(self.run_dir)
        run = run_from_json(info.config, str(info.folder / "run.json"))
        step = chosen_step(info.folder, self.step)
        out = self.out or info.folder / "export" / f"{self.format}-{step}-{self.weights}"
        written = _Writing(verb=self, info=info, run=run, step=step, out=out).write()
        console = plain_console()
        for line in written:
            console.print(line, soft_wrap=True, markup=False)
        return 0


def one_run(path: Path) -> RunInfo:
    """The run of a folder.

    Args:
        path: of a run, or of a study with a single run.

    Raises:
        InputError: there is none, or there are several.
    """
    from prx_scale.runs import load_runs

    infos = load_runs(path)
    if len(infos) > 1:
        listed = ", ".join(str(info.folder) for info in infos)
        raise InputError(f"{path}: has {len(infos)} runs; name one of {listed}")
    return infos[0]


def chosen_step(folder: Path, step: int | None) -> int:
    """The checkpoint to export.

    Args:
        folder: of the run.
        step: None for the latest.

    Raises:
        InputError: there is no such complete checkpoint.
    """
    from prx_scale.evaluation.due import checkpoint_steps

    kept = checkpoint_steps(folder)
    if not kept:
        raise InputError(f"{folder / 'checkpoint'}: no complete checkpoint yet")
    if step is not None and step not in kept:
        raise InputError(f"--step {step}: {folder} has no such checkpoint; steps kept: {', '.join(map(str, kept))}")
    return kept[-1] if step is None else step


@dataclass(frozen=True, kw_only=True)
class _Writing:
    verb: Export
    info: RunInfo
    run: RunConfig
    step: int
    out: Path

    def write(self) -> list[str]:
        """Write the folder; what to tell of it."""
        from prx_scale.models.convert.layouts import check_inputs
        from prx_scale.models.inputs import inputs_of

        if self.verb.format != "prx":
            check_inputs(inputs_of(self.run.data), self.verb.format)
        write = {"diffusers": self._diffusers, "stability": self._stability, "prx": self._prx}[self.verb.format]
        which = f"{self.info.run} step {self.step} ({self.verb.weights})"
        return [f"{which} -> {self.out} ({self.verb.format})", *write()]

    @property
    def provenance(self) -> dict[str, Any]:
        from prx_scale import __version__

        return {
            "study": self.info.study,
            "run": self.info.run,
            "step": self.step,
            "weights": self.verb.weights,
            "format": self.verb.format,
            **({} if self.verb.image_size is None else {"image_size": self.verb.image_size}),
            "prx-scale": __version__,
        }

    def _model(self) -> Exported:
        from prx_scale.models.convert.checkpoints import checkpoint_reader
        from prx_scale.models.convert.exporting import exported_run
        from prx_scale.models.names import parameter_shapes, sizes_of_run

        shapes = parameter_shapes(sizes_of_run(self.run))
        checkpoint = self.info.folder / "checkpoint" / f"step-{self.step}"
        return exported_run(self.run, checkpoint_reader(checkpoint, self.verb.weights, shapes))

    def _published(self, layout: Layout) -> Exported:
        """The model as a published layout holds it."""
        from prx_scale.models.convert.exporting import at_size
        from prx_scale.models.convert.layouts import check_holds

        model = self._model()
        if self.verb.image_size is not None:
            model = at_size(model, self.verb.image_size)
        check_holds(layout, model.sizes)
        return model

    def _components(self, model: Exported) -> dict[str, Component]:
        from prx_scale.models.convert.pipeline import check_components, find_components

        components = find_components(self.verb.components)
        check_components(components, model.sizes)
        return components

    def _diffusers(self) -> list[str]:
        from prx_scale.models.convert.exporting import write_transformer
        from prx_scale.models.convert.layouts import DIFFUSERS
        from prx_scale.models.convert.pipeline import COMPONENTS, write_pipeline
        from prx_scale.models.convert.writing import whole_folder, write_json

        model = self._published(DIFFUSERS)
        components = self._components(model)
        null = [name for name in COMPONENTS if name not in components]
        with whole_folder(self.out, overwrite=self.verb.overwrite, marker=MARKER) as folder:
            (folder / "transformer").mkdir()
            write_transformer(folder / "transformer", model)
            write_pipeline(folder, shift=self.run.shift, components=components)
            write_json(folder / MARKER, self.provenance)
        words = ", ".join(f"{name}=None" for name in null)
        return [
            "load it:",
            "  pipe = StableDiffusion3Pipeline.from_pretrained(",
            f'    "{self.out}",',
            *textwrap.wrap(words, 76, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False),
            "  )",
            "sample it at our sampler's times:",
            "  pipe(..., sigmas=numpy.linspace(1, 0, steps + 1)[:-1])",
        ]

    def _stability(self) -> list[str]:
        from prx_scale.models.convert.exporting import write_stability
        from prx_scale.models.convert.layouts import STABILITY
        from prx_scale.models.convert.writing import whole_folder, write_json

        model = self._published(STABILITY)
        with whole_folder(self.out, overwrite=self.verb.overwrite, marker=MARKER) as folder:
            write_stability(folder / "model.safetensors", model)
            write_json(folder / MARKER, {**self.provenance, "shift": self.run.shift})
        return []

    def _prx(self) -> list[str]:
        from prx_scale.models.convert.exporting import write_own
        from prx_scale.models.convert.writing import whole_folder
        from prx_scale.startweights import INFO

        model = self._model()
        with whole_folder(self.out, overwrite=self.verb.overwrite, marker=INFO) as folder:
            written = write_own(folder, model, {"kind": "run", **self.provenance})
        return [f"{written.parameters:,} parameters, hash {written.hash[:16]}", f'start_from = "{self.out}"']
