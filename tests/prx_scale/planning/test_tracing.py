"""Traces of few blocks against traces of the whole: what is extrapolated is what comes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pytest

from parallel.costs import Operation
from prx_scale.models.sizes import forward_flops, parameters
from prx_scale.planning import PlannedRun, machine, sd3_run
from prx_scale.planning.memory import peak_memory
from prx_scale.planning.timing import step_time
from prx_scale.planning.traces import Trace, between, replicated
from prx_scale.planning.tracing import trace
from prx_scale.runtables import Parallel, Training

pytestmark = pytest.mark.slow  # each makes two traces or more
DEPTH = 7
H100 = machine("h100", precision="bfloat16")


def run_of(images: int = 2, gpus: int = 4, *, batch: int = 0, depth: int = DEPTH, **layout: object) -> PlannedRun:
    """A narrow run whose batch is one micro-batch a process."""
    training = Training(steps=10, batch=batch or images * gpus, warmup=0, precision="bfloat16")
    parallel = Parallel(micro_batch=images, **layout)  # type: ignore[arg-type]
    return sd3_run(depth=depth, width=128, pixels=(64, 96), training=training, parallel=parallel)


def traced(run: PlannedRun, gpus: int = 4, *, images: int = 2, accumulates: bool = False, blocks: int = 4) -> Trace:
    """One trace."""
    return trace(run, gpus, [images], accumulates=accumulates, blocks=blocks)[0]


def listed(operations: tuple[Operation, ...]) -> Counter[tuple[object, ...]]:
    """What ran, in no order."""
    return Counter((each.phase, each.name, each.flops, each.moved, each.sent) for each in operations)


@pytest.fixture(scope="module")
def plain() -> tuple[Trace, Trace, Trace]:
    """Traces of four blocks on four processes, of 2, 4 and 8 images."""
    low, middle, high = trace(run_of(), 4, [2, 4, 8], accumulates=False)
    return low, middle, high


def same_as_whole(few: Trace, whole: Trace, accumulation: int) -> None:
    """Assert that what few blocks tell is what all of them need, to the byte and to the operator."""
    predicted, _ = peak_memory(few, DEPTH, averages=True, accumulation=accumulation)
    found, _ = peak_memory(whole, DEPTH, averages=True, accumulation=accumulation)
    assert asdict(predicted) == asdict(found)
    expected = listed(few.operations.all)
    for _ in range(DEPTH - few.blocks):
        expected += listed(few.operations.block)
    assert listed(whole.operations.all) == expected


def test_four_blocks_tell_of_seven(plain: tuple[Trace, ...]) -> None:
    whole = traced(run_of(), blocks=DEPTH)
    same_as_whole(plain[0], whole, 1)
    _, predicted = peak_memory(plain[0], DEPTH, averages=True, accumulation=1)
    _, found = peak_memory(whole, DEPTH, averages=True, accumulation=1)
    assert asdict(predicted) == asdict(found)


@pytest.mark.parametrize(
    ("layout", "accumulates"),
    [({}, True), ({"reshard": "never"}, False), ({"checkpointing": "full"}, False)],
    ids=["accumulated", "never-reshard", "full"],
)
def test_four_blocks_tell_of_seven_in_other_layouts(layout: dict[str, str], accumulates: bool) -> None:
    run = run_of(**layout)
    few = traced(run, accumulates=accumulates)
    same_as_whole(few, traced(run, accumulates=accumulates, blocks=DEPTH), 2 if accumulates else 1)


def test_four_blocks_tell_of_seven_under_tensor_parallelism() -> None:
    run = run_of(tp=2, checkpointing="selective")
    few, whole = traced(run), traced(run, blocks=DEPTH)
    predicted, _ = peak_memory(few, DEPTH, averages=True, accumulation=1)
    found, _ = peak_memory(whole, DEPTH, averages=True, accumulation=1)
    assert predicted.total == pytest.approx(found.total, rel=0.002)
    flops = sum(each.flops for each in few.operations.all) + 3 * sum(each.flops for each in few.operations.block)
    assert flops == sum(each.flops for each in whole.operations.all)


def test_two_micro_batches_tell_of_those_between(plain: tuple[Trace, ...]) -> None:
    low, middle, high = plain
    predicted = between(low, high, 4)
    assert predicted.operations == middle.operations
    one, other = (peak_memory(each, DEPTH, averages=True, accumulation=1)[0] for each in (predicted, middle))
    # The peak is the highest of several affine functions, so between two points it lies below their line.
    assert other.total <= one.total * (1 + 1e-6)
    assert one.total == pytest.approx(other.total, rel=0.01)


def test_one_copy_tells_of_more_copies(plain: tuple[Trace, ...]) -> None:
    run = run_of()
    found = traced(replace(run, parallel=replace(run.parallel, dp_replicate=2)))
    predicted = replicated(plain[0], 2)
    ours, theirs = (step_time(each, DEPTH, H100, accumulation=1, fused=False) for each in (predicted, found))
    assert ours.sent_bytes == pytest.approx(theirs.sent_bytes)
    assert "hsdp_all_reduce" in ours.sent_bytes
    assert ours.seconds == pytest.approx(theirs.seconds, rel=1e-2)
    assert predicted.states.parameters == pytest.approx(found.states.parameters, rel=1e-3)
    one, other = (peak_memory(each, DEPTH, averages=True, accumulation=1)[0] for each in (predicted, found))
    assert one.total == pytest.approx(other.total, rel=5e-3)


def test_forward_flops_are_those_of_the_closed_form(plain: tuple[Trace, ...]) -> None:
    run = run_of(depth=4)
    products = [each.flops for each in plain[0].operations.all if each.phase == "forward"]
    assert sum(products) == 2 * forward_flops(run.shape)


def test_a_model_that_is_told_sizes_is_traced_with_its_embedder() -> None:
    run = run_of(depth=4, gpus=1)
    told = replace(run, model=replace(run.model, size_conditioning=True))
    found, counts = traced(told, 1), parameters(told.shape)
    products = [each.flops for each in found.operations.all if each.phase == "forward"]
    assert sum(products) == 2 * forward_flops(told.shape) > 2 * forward_flops(run.shape)
    assert counts.size_embed == 128**2 + (6 * 256 + 2) * 128
    assert found.states.parameters == 4 * (counts.backbone + counts.embedding)
    assert found.raw_inputs == 2 * 4 * (2 * 16 * 8 * 12 + 1 + 154 * 4096 + 2048 + 6)


def test_states_are_the_parts_of_the_whole_model(plain: tuple[Trace, ...]) -> None:
    states, counts = plain[0].states, parameters(run_of(depth=4).shape)
    part = counts.backbone + counts.embedding  # four processes, of four bytes each
    assert part <= states.parameters <= part * 1.001  # with padding
    assert states.optimizer == pytest.approx(2 * states.parameters, rel=0.001)  # two moments and the step's number


def test_one_process_in_float32_keeps_whole_parameters() -> None:
    run = run_of(depth=4, gpus=1)
    run = replace(run, training=replace(run.training, precision="float32"))
    found = traced(run, 1)
    counts = parameters(run.shape)
    assert found.states.parameters == 4 * (counts.backbone + counts.embedding)
    memory, _ = peak_memory(found, 4, averages=True, accumulation=1)
    assert memory.communication == 0


@pytest.mark.parametrize(
    ("checkpointing", "other", "off"), [("full", 6.3, 0.08), ("selective", 22.9, 0.02), ("none", 55.7, 0.01)]
)
def test_the_8b_model_on_128_gpus(checkpointing: str, other: float, off: float) -> None:
    """Against an independent tracing of another implementation of the model, which kept no averaged weights.

    Under selective checkpointing it found 21.3 GiB and did not keep attention's outputs, which are 1.6 GiB; under full
    checkpointing its tracker held the gradients of every block's tokens.
    """
    training = Training(steps=1, batch=256, warmup=0, precision="bfloat16")
    parallel = Parallel(tp=2, sequence_parallel=False, checkpointing=checkpointing, micro_batch=4)  # type: ignore[arg-type]
    run = sd3_run(depth=38, pixels=(1024, 1024), training=training, parallel=parallel, averages=False)
    memory, _ = peak_memory(traced(run, 128, images=4), 38, averages=False, accumulation=1)
    assert memory.total / 2**30 == pytest.approx(other, rel=off)
