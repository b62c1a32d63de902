"""A plan in the terminal: sizes, layouts, and what the best one needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from prx_scale.commands.text import number, plain_console

if TYPE_CHECKING:
    from prx_scale.commands.plan_study import Whole
    from prx_scale.planning import Estimate, Plan, PlannedRun

GIB = 2**30
KINDS = {
    "parameters": "parameters, float32",
    "gradients": "gradients, float32",
    "optimizer": "optimiser state",
    "ema": "averaged weights",
    "activations": "activations",
    "inputs": "inputs and positions",
    "communication": "communication buffers",
}


def print_sizes(run: PlannedRun, gpus: int, stage: str = "") -> None:
    """Print what needs no torch: parameters and FLOPs, which are exact.

    Args:
        run: the run.
        gpus: that it is planned on.
        stage: that the run is of another; empty where it is whole.
    """
    from prx_scale.models.sizes import forward_flops, parameters

    console = plain_console()
    shape, training = run.shape, run.training
    counts, flops = parameters(shape), forward_flops(shape)
    rows, columns = run.grid
    console.print(
        Text(f"{_stage(stage)}depth {shape.depth}, hidden {shape.hidden}, {run.model.heads} heads", style="bold"),
        Text(f"{rows} x {columns} image tokens and {shape.text_tokens} of text"),
        Text(f"{training.steps} steps of {training.batch} images on {gpus} GPUs, {training.precision}"),
        sep="\n",
    )
    by_part = {name: getattr(counts, name) for name in counts.__dataclass_fields__}
    parts = ", ".join(f"{name} {number(value)}" for name, value in by_part.items() if value)
    images = training.steps * training.batch
    run_flops = f"{3 * flops * images:.3e} for {number(images)} images"
    console.print(
        Text(f"parameters  {counts.backbone + counts.embedding:,}  (exact)"),
        Text(f"            {parts}", style="dim"),
        Text(f"FLOPs       {number(flops)} forward an image, {run_flops}  (exact)"),
        sep="\n",
    )


def sizes_json(run: PlannedRun) -> dict[str, Any]:
    """What the base install can say, as JSON.

    Args:
        run: the run.
    """
    from prx_scale.models.sizes import forward_flops, parameters
    from prx_scale.planning.report import sizes_of

    images = run.training.steps * run.training.batch
    return sizes_of(parameters(run.shape), forward_flops(run.shape), images)


def _stage(name: str) -> str:
    return f"stage {name}: " if name else ""


def print_plan(plan: Plan, *, price: float, top: int, stage: str = "") -> None:
    """Print a plan.

    Args:
        plan: the plan.
        price: of a GPU for an hour; 0 where none was given.
        top: layouts shown.
        stage: that it is of; empty where it is of a whole run.
    """
    console = plain_console()
    if stage:
        console.print()
        console.print(Text(f"stage {stage}, depth {plan.run.model.depth}", style="bold"))
    for title, table in (_layouts(plan, top), _memory(plan), _time(plan)):
        console.print()
        console.print(Text(title, style="bold"))  # not the table's own title, which would be broken at its width
        console.print(table)
    console.print()
    for line in _closing(plan, price):
        console.print(line)


def print_whole(whole: Whole, *, price: float) -> None:
    """Print what all stages of a run come to.

    Args:
        whole: all of them.
        price: of a GPU for an hour; 0 where none was given.
    """
    cost = f", cost {whole.gpu_hours * price:,.0f} at {price:g}" if price else ""
    console = plain_console()
    console.print()
    console.print(Text(f"all stages, depth {whole.depth}", style="bold"))
    console.print(Text(f"exact: {whole.flops:.3e} FLOPs for {number(whole.images)} images"))
    hours = f"{whole.seconds / 86400:.3g} days, {number(whole.gpu_hours)} GPU-hours"
    console.print(Text(f"estimate: {hours}{cost}, each stage with its own layout"))


def _table(*headings: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", no_wrap=index < left)
    return table


def _layouts(plan: Plan, top: int) -> tuple[str, Table]:
    title = f"layouts on {plan.best.layout.gpus} x {plan.machine.gpu}, by estimated step time"
    table = _table("layout", "recompute", "images", "x", "GiB", "s/step", "MFU", left=2)
    for each in plan.table[:top]:
        fits = each.fits(plan.machine)
        layout = each.layout
        table.add_row(
            layout.name,
            layout.checkpointing,
            str(layout.micro_batch),
            str(layout.accumulation),
            f"{each.memory.total / GIB:.1f}" + ("" if fits else " !"),
            f"{each.step.seconds:.3g}",
            f"{each.mfu:.1%}",
            style=None if fits else "dim",
        )
    return title, table


def _memory(plan: Plan) -> tuple[str, Table]:
    best = plan.best
    table = _table("kind", "GiB at the peak", "")
    exact = ("parameters", "gradients", "optimizer", "ema")
    for name, value in asdict(best.memory).items():
        if name != "moment":
            table.add_row(KINDS[name], f"{value / GIB:.2f}", "exact" if name in exact else "tracked")
    table.add_row("peak", f"{best.memory.total / GIB:.2f}", "", style="bold")
    machine = plan.machine
    left = f"{machine.headroom_gib:.1f} left free"
    if machine.encoders_gib:
        left += f", {machine.encoders_gib:.1f} for encoders"
    table.add_row("may be used", f"{machine.usable_gib:.2f}", left, style="dim")
    return f"memory of a GPU: {described(best)}", table


def _time(plan: Plan) -> tuple[str, Table]:
    from prx_scale.planning.report import time_parts

    names = {
        "matrix": "matrix products",
        "attention": "attention",
        "memory_bound": "between them",
        "waiting": "launching",
        "blocking": "tensor and context parallelism",
        "exposed_sharding": "FSDP, what computing does not hide",
        "update": "clipping, optimiser, averaging",
    }
    table = _table("part", "s", "share")
    seconds = plan.best.step.seconds
    for name, value in time_parts(plan.best).items():
        if value > 0:
            table.add_row(names[name], f"{value:.3g}", f"{value / seconds:.0%}")
    table.add_row("step", f"{seconds:.3g}", "", style="bold")
    return "time of a step, estimated", table


def described(estimate: Estimate) -> str:
    """A layout in words.

    Args:
        estimate: of the layout.
    """
    layout = estimate.layout
    steps = f" x {layout.accumulation}" if layout.accumulation > 1 else ""
    return f"{layout.name}, {layout.checkpointing} recomputed, {layout.micro_batch}{steps} images"


def _closing(plan: Plan, price: float) -> list[Text]:
    best, machine = plan.best, plan.machine
    sent = sum(best.step.sent_bytes.values()) / 1e9
    moment = best.memory.moment
    when = moment if moment.startswith("between") else f"in the {moment}"
    lines = [
        Text(f"peak: {when}; a GPU receives {sent:.3g} GB a step"),
        Text(
            f"estimate: MFU {best.mfu:.1%}, {number(plan.run.training.batch / best.step.seconds)} images/s, "
            f"{plan.seconds / 86400:.3g} days, {number(plan.gpu_hours)} GPU-hours"
            + (f", cost {plan.gpu_hours * price:,.0f} at {price:g}" if price else "")
        ),
        Text(
            f"rates: {machine.peak_tflops:g} TFLOP/s, products at {machine.matrix_share:.0%} of it; "
            f"not measured on a GPU, see docs/plan.md",
            style="dim",
        ),
    ]
    if best.validation.total > machine.usable_gib * GIB:
        need = f"{best.validation.total / GIB:.1f} GiB"
        lines.append(_warning(f"validation, with the weights kept aside, would need {need}, more than fits"))
    if not plan.fits:
        remedy = (
            f"the smallest change that does: {plan.remedy}" if plan.remedy else "nor does any change that was tried"
        )
        lines.append(_warning(f"no layout fits {machine.usable_gib:.1f} GiB; {remedy}"))
    return lines


def _warning(message: str) -> Text:
    return Text.assemble(("warning ", "yellow"), message)
