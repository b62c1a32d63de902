"""What is planned: a run whose images may be oblong, and the layouts it could have. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.layout import data_parallel, micro_batch
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import Shape
from prx_scale.runtables import HEAD_DIM, Data, Model, Parallel, Training

PATCH = 2
"""Side of a patch of the published model, in latents."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun(RunConfig):
    """A run with a grid of patches and a number of text tokens of its own; 0 stands for those of the configuration."""

    rows: int = 0
    columns: int = 0
    text_tokens: int = 0
    averages: bool = True
    """Keeps an exponential moving average of the weights."""

    @property
    def grid_side(self) -> int:
        """Patches along the longer side."""
        return max(self.rows, self.columns) or super().grid_side

    @property
    def tokens_per_sample(self) -> int:
        """Image tokens of one image."""
        return self.rows * self.columns or super().tokens_per_sample

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        return (self.rows or self.grid_side, self.columns or self.grid_side)

    @property
    def shape(self) -> Shape:
        """All sizes of the model."""
        shape = model_shape(self)
        return replace(shape, text_tokens=self.text_tokens) if self.text_tokens else shape


def planned(run: RunConfig) -> PlannedRun:
    """A run of a study, to be planned.

    Args:
        run: the run.
    """
    return PlannedRun(**{name: getattr(run, name) for name in RunConfig.__dataclass_fields__})


def sd3_run(
    *,
    depth: int,
    width: int = 0,
    pixels: tuple[int, int] = (256, 256),
    text_tokens: int = 0,
    training: Training,
    parallel: Parallel,
    averages: bool = True,
) -> PlannedRun:
    """A run of the published model on latents of images of any size.

    Args:
        depth: joint blocks.
        width: hidden size; 0 is 64 x depth.
        pixels: height and width of an image.
        text_tokens: 0 is the published 154.
        training: batch, steps, precision and optimiser.
        parallel: the layout.
        averages: keep averaged weights.

    Raises:
        InputError: sizes that no model can have.
    """
    if depth < 1:
        raise InputError(f"--depth: {depth} is too small; at least 1")
    if width % HEAD_DIM or width < 0:
        raise InputError(f"--width: {width} is not a multiple of {HEAD_DIM}, the width of a head")
    data = Data(dataset="random", image_size=max(pixels))
    step = data.downsampling * PATCH
    if min(pixels) < step or any(side % step for side in pixels):
        raise InputError(
            f"--resolution: {pixels[0]}x{pixels[1]} pixels are not whole patches of {step} x {step}; "
            f"sides must be multiples of {step}"
        )
    return PlannedRun(
        study="plan",
        model=Model(depth=depth, width=width, patch=PATCH),
        data=data,
        training=training,
        parallel=parallel,
        rows=pixels[0] // step,
        columns=pixels[1] // step,
        text_tokens=text_tokens,
        averages=averages,
    )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a run is spread over GPUs, every degree resolved."""

    gpus: int
    dp_replicate: int
    dp_shard: int
    tp: int
    cp: int
    sequence_parallel: bool
    reshard: str
    checkpointing: str
    compile: bool
    micro_batch: int
    """Images that a process holds at once."""
    accumulation: int
    """Micro-batches a step."""

    @property
    def name(self) -> str:
        """In words: FSDP 64 x TP 2."""
        parts = [f"FSDP {self.dp_shard}"]
        if self.dp_replicate > 1:
            parts = [f"HSDP {self.dp_replicate} x {self.dp_shard}"]
        parts += [f"TP {self.tp}"] if self.tp > 1 else []
        parts += [f"CP {self.cp}"] if self.cp > 1 else []
        return " x ".join(parts)


def layout_of(run: RunConfig, gpus: int) -> Layout:
    """The layout that a run asks for on a number of GPUs.

    Args:
        run: the run.
        gpus: processes, one a GPU.

    Raises:
        InputError: the degrees or the batch do not fit.
    """
    parallel = run.parallel
    groups, images = data_parallel(run, gpus), micro_batch(run, gpus)
    return Layout(
        gpus=gpus,
        dp_replicate=parallel.dp_replicate,
        # Context parallelism takes its processes from those that share the weights.
        dp_shard=gpus // (parallel.dp_replicate * parallel.tp * parallel.cp),
        tp=parallel.tp,
        cp=parallel.cp,
        sequence_parallel=parallel.tp > 1 and parallel.sequence_parallel,
        reshard=parallel.reshard,
        checkpointing=parallel.checkpointing,
        compile=parallel.compile,
        micro_batch=images,
        accumulation=run.training.batch // (groups * images),
    )
