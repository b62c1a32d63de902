"""A plan as JSON: every number with whether it is exact, and what it rests on. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from prx_scale.models.sizes import ParameterCounts
from prx_scale.planning.hardware import (
    ATTENTION_SHARE,
    DISPATCH_SECONDS,
    LATENCY_SECONDS,
    LINK_SHARE,
    MEMORY_SHARE,
    find_gpu,
)
from prx_scale.planning.memory import GIB, MemoryByKind
from prx_scale.planning.planner import Estimate, Plan

CLOSED_FORM = "closed form from the architecture, equal to the built model and to torch's FLOP counter"
SHARDS = "sizes of the shards that FSDP2 and tensor parallelism make of this model on these processes, padding included"
TRACKED = "torch's memory tracker over the training step of 4 blocks on fake tensors, and what one block more adds"
ENCODERS = "parameters of the published text encoders x processes x bytes; what they compute with is not counted"
ROOFLINE = (
    "roofline over the step's counted operators and collectives; rates of the hardware table; no GPU was measured"
)
EXACT_KINDS = ("parameters", "gradients", "optimizer", "ema")


def number(value: Any, kind: Literal["exact", "estimate"], basis: str) -> dict[str, Any]:
    """One number of the document.

    Args:
        value: the number, or numbers by name.
        kind: exact, or an estimate.
        basis: what it rests on.
    """
    return {"value": value, "kind": kind, "basis": basis}


def sizes_of(counts: ParameterCounts, flops: int, images: int) -> dict[str, Any]:
    """The part of the document that needs no torch.

    Args:
        counts: parameters by part.
        flops: of a forward pass of one image.
        images: of the run.
    """
    by_part = {name: getattr(counts, name) for name in counts.__dataclass_fields__}
    return {
        "params_total": number(counts.backbone + counts.embedding, "exact", CLOSED_FORM),
        "params_by_part": number(by_part, "exact", CLOSED_FORM),
        "flops_per_image_forward": number(flops, "exact", CLOSED_FORM),
        "flops_per_run": number(3 * flops * images, "exact", "3 forward passes x images"),
        "images": number(images, "exact", "steps x batch"),
    }


def to_json(plan: Plan, price: float) -> dict[str, Any]:
    """The document of a plan.

    Args:
        plan: the plan.
        price: of a GPU for an hour; 0 where none was given.
    """
    run, best = plan.run, plan.best
    return {
        "run": {
            "depth": run.model.depth,
            "hidden": run.model.hidden,
            "heads": run.model.heads,
            "grid": list(run.grid),
            "image_tokens": run.tokens_per_sample,
            "text_tokens": run.shape.text_tokens,
            "batch": run.training.batch,
            "steps": run.training.steps,
            "precision": run.training.precision,
        },
        "machine": {**asdict(plan.machine), "source": find_gpu(plan.machine.gpu).source},
        "rates": {
            "matrix_share": plan.machine.matrix_share,
            "attention_share": ATTENTION_SHARE,
            "memory_share": MEMORY_SHARE,
            "link_share": LINK_SHARE,
            "collective_latency_s": LATENCY_SECONDS,
            "dispatch_s": DISPATCH_SECONDS,
        },
        **sizes_of(plan.counts, plan.flops_per_image, plan.images),
        "layout": {**asdict(best.layout), "name": best.layout.name},
        "fits": number(plan.fits, "estimate", f"total against {plan.machine.usable_gib:.1f} GiB of a GPU"),
        "encoders_gib": number(plan.machine.encoders_gib, "estimate", ENCODERS),
        "remedy": plan.remedy or None,
        "memory_gib": memory_json(best.memory),
        "memory_moment": best.memory.moment,
        "validation_gib": number(best.validation.total / GIB, "estimate", TRACKED),
        "communication_bytes_per_step": number(best.step.sent_bytes, "exact", "collectives of the traced step, a ring"),
        "step_time_s": number(best.step.seconds, "estimate", ROOFLINE),
        "step_time_parts_s": number(time_parts(best), "estimate", ROOFLINE),
        "images_per_second": number(run.training.batch / best.step.seconds, "estimate", ROOFLINE),
        "mfu": number(best.mfu, "estimate", "3 forward passes x images / (step time x peak); no recomputation counted"),
        "days": number(plan.seconds / 86400, "estimate", "steps x step time; validation and checkpoints not counted"),
        "gpu_hours": number(
            plan.gpu_hours, "estimate", "steps x step time x GPUs; validation and checkpoints not counted"
        ),
        "cost": number(plan.gpu_hours * price, "estimate", f"GPU-hours x {price:g}") if price else None,
        "table": [row_json(each, plan) for each in plan.table],
    }


def memory_json(memory: MemoryByKind) -> dict[str, Any]:
    """GiB by kind, and the total.

    Args:
        memory: at a moment.
    """
    kinds = {name: value for name, value in asdict(memory).items() if name != "moment"}
    found = {
        name: number(value / GIB, "exact" if name in EXACT_KINDS else "estimate", _basis(name))
        for name, value in kinds.items()
    }
    return {**found, "total": number(memory.total / GIB, "estimate", "sum of the kinds at the moment of the peak")}


def _basis(kind: str) -> str:
    return SHARDS if kind in EXACT_KINDS else TRACKED


def time_parts(estimate: Estimate) -> dict[str, float]:
    """Seconds of a step, by what they are spent on.

    Args:
        estimate: of a layout.
    """
    step = estimate.step
    passes = (step.forward, step.backward)
    parts = {
        name: step.accumulation * sum(getattr(each, name) for each in passes)
        for name in ("matrix", "attention", "memory_bound", "waiting", "blocking")
    }
    hidden = sum(each.seconds - each.computing for each in passes)
    return {**parts, "exposed_sharding": step.accumulation * (hidden + step.exposed), "update": step.update.seconds}


def row_json(estimate: Estimate, plan: Plan) -> dict[str, Any]:
    """A row of the table of layouts.

    Args:
        estimate: of the layout.
        plan: whose table it is in.
    """
    return {
        "layout": {**asdict(estimate.layout), "name": estimate.layout.name},
        "fits": estimate.fits(plan.machine),
        "memory_gib": number(estimate.memory.total / GIB, "estimate", f"{TRACKED}; affine in the micro-batch"),
        "step_time_s": number(estimate.step.seconds, "estimate", ROOFLINE),
        "mfu": number(estimate.mfu, "estimate", ROOFLINE),
    }
