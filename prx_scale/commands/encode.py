"""`prx-scale encode`: captioned images into a store of latents and text states."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prx_scale.commands import exits
from prx_scale.commands.data_options import DataOptions
from prx_scale.commands.point_options import Repeated, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from prx_scale.data.buckets import BucketTable
    from prx_scale.data.encoding.job import Job
    from prx_scale.data.encoding.plan import Asked
    from prx_scale.data.filters import Manifest
    from prx_scale.data.sources import Fields

Storage = Literal["bf16", "fp16", "fp8"]


@dataclass(frozen=True, kw_only=True)
class BucketOptions:
    """Sizes that images are brought to, as a study file's [buckets] has them."""

    buckets: Literal["square", "prx", "qwen-image", "sd3"] = "square"
    """Rule of the aspect-ratio buckets."""
    bucket_step: int = 0
    """Pixels between sizes; 0 is the rule's own."""
    min_ratio: float = 0.5
    """Smallest width / height of prx and sd3."""
    max_ratio: float = 2.0
    """Largest."""
    ratios: Repeated = ()
    """Width:height of qwen-image, as 16:9. Repeat for more; left out, its nine."""
    stretch: float = 0.05
    """An image whose ratio differs from its bucket's by no more than this share is stretched, others are cropped."""
    max_upscaling: float = 4 / 3
    """Images that would have to grow by more along a side are left out of a resolution."""
    patch: int = 2
    """Latents along a side of a patch of the model; sides of buckets are whole patches."""

    def table(self) -> BucketTable:
        """The options as a [buckets] table.

        Raises:
            InputError: one is out of bounds.
        """
        from prx_scale.data.buckets import QWEN_IMAGE_RATIOS, BucketTable
        from prx_scale.tables import check_bounds

        table = BucketTable(
            rule=self.buckets,
            step=self.bucket_step,
            min_ratio=self.min_ratio,
            max_ratio=self.max_ratio,
            ratios=self.ratios or QWEN_IMAGE_RATIOS,
            stretch=self.stretch,
            max_upscaling=self.max_upscaling,
        )
        check_bounds(table, lambda key: "--bucket-step" if key == "step" else f"--{key.replace('_', '-')}")
        return table


@dataclass(frozen=True, kw_only=True)
class Encode(DataOptions):
    """Encode captioned images once: latents and text states to a folder that training reads.

    Says first how large it becomes and how long it takes. Stopped or killed, the same command goes on at the first
    missing shard.

    Example: prx-scale encode 'shards/*.tar' --out store --image-encoder sd3 --resolution 256 --dry-run

    Example: prx-scale encode photos --out store --buckets prx --text-encoders clip-l=sd35 clip-g=sd35 t5=sd35

    Example: prx-scale encode 'shards/*.tar' --out store --text-encoders t5 --text-dtype fp8 --part 3/8 --processes 4
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the store."""
    image_encoder: str = "sd3"
    """NAME or NAME=SOURCE, a folder or hub id of its weights; left out, the published ones: sd3=weights/sd35."""
    text_encoders: tuple[str, ...] = ()
    """NAME or NAME=SOURCE of each; none stores latents, and captions as text."""
    resolution: tuple[int, ...] = (256,)
    """Image sizes; one or several, as 256 512 1024. An image has latents at all that it is large enough for."""
    buckets: Annotated[BucketOptions, tyro.conf.arg(name="")] = field(default_factory=BucketOptions)
    class_templates: Repeated = ()
    """A caption of an image's class, as 'a photo of a {class}'; gives captions of the kind class, beside those
    that --captions names, else alone. Repeat for more."""
    classes: str = ""
    """File with the names of the classes; left out, samples name theirs in words."""
    cleaning: Literal["none", "light"] = "none"
    """Of captions; light resolves HTML references and white space."""
    filter: Path | None = None
    """Result of prx-scale filter; what it left out is not encoded."""
    dtype: Storage = "bf16"
    """Number type of what is stored; fp8 is e4m3 with a power of two for each token and channel."""
    text_dtype: Storage | None = None
    """Of text states, where they differ."""
    pooled_only: bool = False
    """Store no states of tokens, only the pooled one of each caption."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """That encoders compute in."""
    device: str = ""
    """cpu, cuda, cuda:1. Left out, a GPU where there is one, for each process the next."""
    shard_size: int = 0
    """Samples of a shard; 0 makes shards of about 512 MiB."""
    processes: int = 1
    """That encode side by side; each loads the encoders."""
    threads: int = 0
    """Of each process, to decode and, on a CPU, to encode; 0 shares out the cores."""
    part: str = ""
    """i/n: make the i-th of n parts, as 3/8. In a SLURM array left out: each task makes its own."""
    max_skipped: float = 0.05
    """Share of the samples that may be unusable before encoding ends."""
    verify: bool = False
    """Read shards that are there, compare their hashes, and make those that differ again."""
    force: bool = False
    """Start though the disk will be full."""
    dry_run: bool = False
    """Only say how large it becomes and how long it takes."""
    json: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write sizes, time and what became of it as JSON to this file; - writes it, and nothing else, to standard
    output."""

    def run(self) -> int:
        """Encode; 0 when the store, or this part of it, is there, 1 when a process failed.

        Raises:
            InputError: data, encoders or options that cannot be used.
        """
        from prx_scale.commands.children import quiet_threads
        from prx_scale.commands.encode_output import console, introduce
        from prx_scale.data.store.finishing import check_folder

        self._check()
        quiet_threads()
        job, samples = self._job()
        check_folder(self.out)
        out = console(stderr=self.json == "-")
        introduce(job, samples, out)
        return self._time(job, samples, out) if self.dry_run else self._encode(job, samples, out)

    def _time(self, job: Job, samples: int, out: Console) -> int:
        from prx_scale.commands.encode_json import bill, timed
        from prx_scale.commands.encode_output import dry_run

        measured = dry_run(job, samples, self.processes, out)
        write_json({**bill(job, samples), "time": timed(measured, samples, self.processes)}, self.json)
        return exits.DONE

    def _encode(self, job: Job, samples: int, out: Console) -> int:
        from prx_scale.commands.encode_json import bill, result
        from prx_scale.commands.encode_output import EncodeWatcher, ended, stopped
        from prx_scale.data.encoding.processes import Stopped
        from prx_scale.data.encoding.running import encode

        with EncodeWatcher(job, self.processes, out, force=self.force) as watcher:
            try:
                done = encode(job, watcher, processes=self.processes, max_skipped=self.max_skipped, verify=self.verify)
            except Stopped:
                watcher.close()
                stopped(job, watcher, out)
                return exits.INTERRUPTED
        ended(job, done, out)
        write_json({**bill(job, samples), "result": result(job, done)}, self.json)
        return exits.FAILED if done.left else exits.DONE

    def _check(self) -> None:
        from prx_scale.data.encoding.plan import check_device

        smallest = min(self.resolution, default=0)
        bounds = {"--processes": self.processes, "--patch": self.buckets.patch, "--resolution": smallest}
        for option, value in bounds.items():
            if value < 1:
                raise InputError(f"{option}: {value} is too small; at least 1")
        for option, value in (("--shard-size", self.shard_size), ("--threads", self.threads)):
            if value < 0:
                raise InputError(f"{option}: {value} is negative; at least 0")
        check_device(self.device, "--device")
        if not 0 <= self.max_skipped <= 1:
            raise InputError(f"--max-skipped: {self.max_skipped:g} is no share; between 0 and 1")

    def _job(self) -> tuple[Job, int]:
        """What is to be done, and of how many samples."""
        from prx_scale.data.encoding.job import Job
        from prx_scale.data.encoding.parts import part_of
        from prx_scale.data.encoding.plan import plan
        from prx_scale.data.store.recipe import DataName

        part = part_of(self.part, os.environ)
        source, manifest = self.open(classes=bool(self.class_templates) and not self.captions), self._manifest()
        if manifest is not None:
            manifest.check(source)
        data = DataName(
            spec=source.spec,
            fingerprint=source.fingerprint(),
            samples=int(source.counts().sum()),
            filter="" if manifest is None else manifest.identity,
        )
        job = Job(
            plan=plan(self._asked(self.fields()), data),
            source=source,
            out=self.out,
            filter=self.filter,
            part=part,
            precision=self.precision,
            cleaning=self.cleaning,
            device=self.device,
            threads=self.threads,
        )
        return job, data.samples if manifest is None else manifest.kept

    def _manifest(self) -> Manifest | None:
        from prx_scale.data.filters import Manifest

        return None if self.filter is None else Manifest.open(self.filter)

    def _asked(self, fields: Fields) -> Asked:
        from prx_scale.data.captions import CLASS
        from prx_scale.data.encoding.plan import Asked, captions_of

        kinds = (*fields.captions, *((CLASS,) if self.class_templates else ()))
        if self.classes and not self.class_templates:
            raise InputError("--classes: names classes that no caption is made of; add --class-templates")
        return Asked(
            image=self.image_encoder,
            text=self.text_encoders,
            image_sizes=self.resolution,
            buckets=self.buckets.table(),
            patch=self.buckets.patch,
            captions=captions_of(kinds, self.class_templates, self.classes),
            latents=self.dtype,
            states=self.text_dtype or self.dtype,
            pooled_only=self.pooled_only,
            shard_size=self.shard_size,
        )
