"""The planner's arithmetic, without torch: hardware, layouts, collectives, rooflines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parallel.costs import Memory, Operation, Operations, Passes
from prx_scale.commands.plan_study import works_of
from prx_scale.config import RunConfig
from prx_scale.encodingtable import Encoding
from prx_scale.errors import InputError
from prx_scale.planning import GPUS, Choices, PlannedRun, machine, sd3_run
from prx_scale.planning.candidates import meshes
from prx_scale.planning.memory import peak_memory
from prx_scale.planning.timing import collective_seconds, received_bytes, step_time
from prx_scale.planning.traces import StateBytes, Trace
from prx_scale.runtables import Data, Model, Parallel, Training

H100 = machine("h100", precision="bfloat16")


def run_of(depth: int = 38, batch: int = 4096, *, pixels: tuple[int, int] = (256, 256)) -> PlannedRun:
    """The published model."""
    return sd3_run(depth=depth, pixels=pixels, training=Training(steps=10, batch=batch), parallel=Parallel())


def collective(name: str, ranks: range, sent: int = 8_000_000_000) -> Operation:
    """One collective."""
    return Operation(phase="forward", name=name, group=tuple(ranks), sent=sent)


def test_a_ring_receives_all_but_its_own_part() -> None:
    assert received_bytes(collective("_allgather_base_", range(8))) == 7e9
    assert received_bytes(collective("_reduce_scatter_base_", range(8))) == 7e9
    assert received_bytes(collective("allreduce_", range(8))) == 14e9
    assert received_bytes(collective("all_reduce", range(8))) == 14e9


def test_collectives_take_the_slower_of_link_and_network() -> None:
    inside = collective_seconds(collective("_allgather_base_", range(8)), H100)
    assert inside == pytest.approx(7e9 / (450e9 * 0.8) + 20e-6)
    whole_nodes = collective_seconds(collective("_allgather_base_", range(16)), H100)
    assert whole_nodes == pytest.approx(7.5e9 / (400e9 * 0.8) + 20e-6)  # eight adapters of 50 GB/s a machine
    one_each = collective_seconds(collective("_allgather_base_", range(0, 16, 8)), H100)
    assert one_each == pytest.approx(4e9 / (50e9 * 0.8) + 20e-6)
    assert collective_seconds(collective("_allgather_base_", range(1)), H100) == 0


def made_trace() -> Trace:
    """Four blocks of round numbers."""
    product = Operation(phase="forward", name="mm", flops=10**12)
    backward = Operation(phase="backward", name="mm", flops=2 * 10**12)
    memory = [Memory(parameters=400, activations=1000 + 100 * i) for i in range(4)]
    passes = Passes(
        before=Memory(parameters=400),
        peak=memory[-1],
        entering=tuple(memory),
        forward=tuple(memory),
        backward=tuple(Memory(parameters=400, gradients=100 * (3 - i), activations=1000 + 100 * i) for i in range(4)),
    )
    return Trace(
        blocks=4,
        images=2,
        accumulates=False,
        states=StateBytes(parameters=400, block_parameters=100, optimizer=800, block_optimizer=200),
        passes=passes,
        update_peak=0,
        validation=passes,
        raw_inputs=7,
        operations=Operations(all=(product,) * 4 + (backward,) * 4, block=(product, backward)),
        update=Operations(all=(Operation(phase="update", name="add", moved=4 * 10**9),)),
    )


def test_time_of_a_step_is_that_of_its_blocks() -> None:
    step = step_time(made_trace(), 10, H100, accumulation=3, fused=False)
    rate = 989.4e12 * 0.7
    assert step.forward.seconds == pytest.approx(10 * 1e12 / rate)
    assert step.backward.seconds == pytest.approx(10 * 2e12 / rate)
    assert step.update.seconds == pytest.approx(10e9 / (3350e9 * 0.8))
    assert step.seconds == pytest.approx(3 * 30e12 / rate + step.update.seconds)


def test_memory_is_highest_where_blocks_before_or_after_weigh_most() -> None:
    training, validation = peak_memory(made_trace(), 10, averages=True, accumulation=1)
    # After all blocks: 1300 + 6 x 100 of activations, no gradients; before them 1000, and gradients of 9 blocks.
    states = 1000 + 2000 + 1000
    assert training.total == states + 1900
    assert (training.parameters, training.optimizer, training.ema) == (1000, 2000, 1000)
    assert validation.ema == 2000


def test_accumulated_gradients_are_there_all_the_time() -> None:
    once, _ = peak_memory(made_trace(), 10, averages=False, accumulation=1)
    often, _ = peak_memory(made_trace(), 10, averages=False, accumulation=3)
    assert often.total == once.total + 1000 + 100 + 2 * 7


def test_layouts_of_the_8b_model() -> None:
    found = meshes(run_of(), 128, 8, Choices())
    assert {each.run.parallel.tp for each in found} == {1, 2}
    assert {each.run.parallel.checkpointing for each in found} == {"none", "selective", "full"}
    assert all(each.replicas == (1, 16) for each in found)
    (alone,) = meshes(run_of(), 128, 8, Choices(tp=1, checkpointing="full", micro_batch=8))
    assert alone.micro_batches == (8,)


@pytest.mark.parametrize(
    ("choices", "gpus", "batch", "message"),
    [
        (Choices(tp=4), 128, 4096, "38 heads: tensor parallel degrees that divide are 2, 19, 38"),
        (Choices(tp=2), 7, 7, "2 does not divide 7 GPUs; degrees that do are 1, 7"),
        (Choices(cp=3), 9, 9, "possible: 1, 2, 4"),
        (Choices(tp=1), 128, 100, "100 images cannot be dealt out over 128"),
        (Choices(tp=1, micro_batch=3), 128, 4096, "those of a process|sizes that do: 1, 2, 4, 8, 16, 32"),
        (Choices(tp=1, dp_replicate=3), 128, 4096, "3 does not divide 128 processes"),
        (Choices(), 0, 4096, "at least 1"),
    ],
)
def test_impossible_layouts_are_refused_with_the_possible(
    choices: Choices, gpus: int, batch: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        meshes(run_of(batch=batch), gpus, 8, choices)


def test_oblong_images_count_their_tokens() -> None:
    run = run_of(pixels=(768, 1344))
    assert run.grid == (48, 84)
    assert run.tokens_per_sample == run.shape.image_tokens == 48 * 84
    assert run.grid_side == 84


def test_what_the_user_knows_better_replaces_the_table() -> None:
    own = machine("h200", precision="bfloat16", peak_tflops=800, efficiency=0.6, interconnect_gbs=25, per_node=4)
    assert (own.peak_tflops, own.matrix_share, own.network_gbs, own.per_node) == (800, 0.6, 25, 4)
    assert machine("h100", precision="float32").peak_tflops == 66.9
    assert machine("h100", precision="bfloat16", headroom=0.1).usable_gib == pytest.approx(0.9 * 79.1)
    assert machine("h100", precision="bfloat16", headroom=10).usable_gib == pytest.approx(69.1)
    for options in ({"headroom": 80}, {"efficiency": 1.5}, {"peak_tflops": -1}, {"per_node": -1}):
        with pytest.raises(InputError):
            machine("h100", precision="bfloat16", **options)
    with pytest.raises(InputError, match="did you mean 'h100'"):
        machine("h10", precision="bfloat16")


def test_every_gpu_of_the_table_says_where_its_numbers_are_from() -> None:
    for gpu in GPUS.values():
        assert gpu.source
        assert gpu.bfloat16_tflops > gpu.float32_tflops
        assert gpu.link_gbs >= gpu.network_gbs


def test_text_encoders_on_the_gpu_that_trains_take_their_weights_off_what_may_be_filled() -> None:
    rates = machine("h100", precision="bfloat16")
    encoding = Encoding(text_encoders=("clip-l", "clip-g=/weights", "t5"), processes=2)
    sizes = (
        "channels 16",
        "downsampling 8",
        "context 4096",
        "pooled 2048",
        "text t5 0 154 0 4096 0 2048",
        "buckets 256 256x256",
    )
    data, training = Data(dataset="images", path="x", image_size=256, sizes=sizes), Training(steps=10)
    run = RunConfig(study="s", model=Model(depth=2), data=data, training=training, encoding=encoding)
    weights = 123_060_480 + 694_659_840 + 4_762_310_656
    (work,) = works_of(run, rates)
    assert work.machine.encoders_gib == pytest.approx(2 * 2 * weights / 2**30)
    assert work.machine.usable_gib == pytest.approx(79.1 - 6 - 2 * 2 * weights / 2**30)
    for other in (replace(encoding, device="cpu"), Encoding()):
        store = replace(run, data=replace(data, dataset="store"), encoding=other)
        assert works_of(store, rates)[0].machine == rates
    many = replace(run, encoding=replace(encoding, precision="float32", processes=4))
    with pytest.raises(InputError, match=r"encoders of 4 processes hold 83\.1 of the 79\.1 GiB of one h100.*a store"):
        works_of(many, rates)
