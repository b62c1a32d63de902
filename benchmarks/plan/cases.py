"""The small runs whose memory is measured and planned."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.config import RunConfig
from prx_scale.runtables import Checkpoint, Data, Model, Parallel, Training, Validation


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run, and the processes that it is spread over."""

    name: str
    processes: int
    run: RunConfig


def _case(
    name: str,
    processes: int,
    *,
    depth: int,
    width: int,
    batch: int,
    precision: str,
    pixels: int = 256,
    **layout: object,
) -> Case:
    return Case(
        name=name,
        processes=processes,
        run=RunConfig(
            study="plan",
            model=Model(depth=depth, width=width),
            data=Data(dataset="random", image_size=pixels),
            training=Training(steps=1000, batch=batch, warmup=0, precision=precision),
            validation=Validation(every=1000),
            checkpoint=Checkpoint(every=1000),
            parallel=Parallel(**layout),
        ),
    )


CASES = (
    _case("1-float32", 1, depth=6, width=384, batch=4, precision="float32"),
    _case("1-float32-accumulated", 1, depth=6, width=384, batch=6, precision="float32", micro_batch=3),
    _case("1-float32-full", 1, depth=8, width=320, batch=8, precision="float32", checkpointing="full"),
    _case("1-float32-few-images", 1, depth=6, width=512, batch=1, precision="float32", checkpointing="full"),
    _case("1-bfloat16", 1, depth=6, width=384, batch=8, precision="bfloat16"),
    _case("1-bfloat16-selective", 1, depth=8, width=384, batch=8, precision="bfloat16", checkpointing="selective"),
    _case("1-bfloat16-full", 1, depth=8, width=384, batch=8, precision="bfloat16", checkpointing="full"),
    _case("1-bfloat16-512px", 1, depth=5, width=256, batch=4, precision="bfloat16", pixels=512),
    _case("2-fsdp-float32", 2, depth=6, width=384, batch=8, precision="float32"),
    _case("2-fsdp-bfloat16-full", 2, depth=8, width=384, batch=8, precision="bfloat16", checkpointing="full"),
    _case("2-fsdp-accumulated", 2, depth=6, width=384, batch=8, precision="bfloat16", micro_batch=2),
    _case("2-fsdp-never-reshard", 2, depth=6, width=384, batch=8, precision="bfloat16", reshard="never"),
    _case("2-hsdp-bfloat16", 2, depth=6, width=384, batch=8, precision="bfloat16", dp_replicate=2),
    _case("2-tp-bfloat16", 2, depth=6, width=384, batch=4, precision="bfloat16", tp=2),
    _case("2-tp-whole-sequences", 2, depth=6, width=384, batch=4, precision="bfloat16", tp=2, sequence_parallel=False),
    _case("2-cp-bfloat16", 2, depth=6, width=384, batch=4, precision="bfloat16", cp=2),
    _case("4-fsdp-tp-selective", 4, depth=6, width=384, batch=4, precision="bfloat16", tp=2, checkpointing="selective"),
)
