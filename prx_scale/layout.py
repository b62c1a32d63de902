"""Which layouts a run can be spread in: what must divide what, said before anything starts. Needs no torch."""

from __future__ import annotations

import math

from prx_scale.config import RunConfig
from prx_scale.errors import InputError


def divisors(number: int) -> list[int]:
    """All that divide a number, in order.

    Args:
        number: positive.
    """
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def check_layout(run: RunConfig, where: str) -> None:
    """Refuse a layout that no number of processes could have.

    Args:
        run: the run.
        where: file and variant, for errors.

    Raises:
        InputError: names the key and lists what is possible.
    """
    heads, parallel = run.model.heads, run.parallel
    if heads % parallel.tp:
        raise InputError(
            f"{where} [parallel] tp: {parallel.tp} does not divide the {heads} heads of width {run.model.hidden}; "
            f"possible: {_listed(divisors(heads))}"
        )
    # TorchTitan deals image tokens out in two pieces a process.
    tokens = math.gcd(*run.token_counts)
    if parallel.cp > 1 and tokens % (2 * parallel.cp):
        possible = [1, *(each for each in divisors(tokens) if each > 1 and tokens % (2 * each) == 0)]
        counts = _listed(list(run.token_counts))
        raise InputError(
            f"{where} [parallel] cp: twice {parallel.cp} does not divide the {counts} image tokens; "
            f"possible: {_listed(possible)}"
        )
    if parallel.compile and parallel.checkpointing == "selective" and parallel.tp > 1:
        raise InputError(
            f"{where} [parallel] checkpointing: selective inside compiled blocks fails under tensor parallelism with "
            'torch 2.13; use "full" or "none", tp = 1, or compile = false'
        )


def micro_batch(run: RunConfig, world_size: int) -> int:
    """Images that a process holds at once.

    Args:
        run: the run.
        world_size: number of processes.

    Raises:
        InputError: the mesh or the batch does not fit the number of processes.
    """
    groups = data_parallel(run, world_size)
    size = run.parallel.micro_batch or run.training.batch // groups
    if size == 0 or run.training.batch % (size * groups):
        over = f"{groups} groups of {world_size // groups} processes" if groups < world_size else f"{groups} processes"
        raise InputError(
            f"[training] batch: {run.training.batch} images cannot be dealt out over {over}"
            + (f" in micro-batches of {size}" if run.parallel.micro_batch else "")
            + f"; a multiple of {max(size, 1) * groups} can"
        )
    return size


def data_parallel(run: RunConfig, world_size: int) -> int:
    """Groups of processes that work on images of their own: all processes over those that share one image.

    Args:
        run: the run.
        world_size: number of processes.

    Raises:
        InputError: the degrees do not multiply to the number of processes.
    """
    parallel = run.parallel
    fixed = parallel.tp * parallel.cp * parallel.dp_replicate
    named = "".join(f" x {name} {getattr(parallel, name)}" for name in ("tp", "cp") if getattr(parallel, name) > 1)
    if world_size % fixed or (parallel.dp_shard != -1 and fixed * parallel.dp_shard != world_size):
        least = fixed * max(parallel.dp_shard, 1)
        raise InputError(
            f"[parallel] dp_replicate {parallel.dp_replicate} x dp_shard {parallel.dp_shard}{named} does not give the "
            f"{world_size} processes started; start {'a multiple of ' if parallel.dp_shard == -1 else ''}{least}, as "
            f"torchrun --nproc-per-node {least} does, or let dp_shard = -1 take what is left"
        )
    return world_size // (parallel.tp * parallel.cp)


def shares_sequence(run: RunConfig) -> bool:
    """Whether tensor parallelism shares out the image tokens between products: where it is on, asked for, and even.

    Args:
        run: the run.
    """
    parallel = run.parallel
    parts = parallel.tp * (2 * parallel.cp if parallel.cp > 1 else 1)
    return parallel.tp > 1 and parallel.sequence_parallel and math.gcd(*run.token_counts) % parts == 0


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
