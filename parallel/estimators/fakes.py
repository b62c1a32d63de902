"""A world and tensors of no substance."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from parallel.titan import set_spmd_backend


@contextmanager
def fake_world(processes: int) -> Generator[None]:
    """This process as rank 0 of a world whose collectives do nothing.

    Args:
        processes: in the world.

    Raises:
        RuntimeError: this process is part of a world already.
    """
    if dist.is_initialized():
        raise RuntimeError("a process group is in use; a fake world needs a process of its own")
    # It advises on how collectives could be faster, which is not asked here.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    dist.init_process_group("fake", rank=0, world_size=processes)
    set_spmd_backend("partial_dtensor")
    try:
        yield
    finally:
        dist.destroy_process_group()


def fake_tensors() -> FakeTensorMode:
    """Tensors made while it lasts have sizes and no memory. Parameters on the meta device may be used in it."""
    return FakeTensorMode(allow_non_fake_inputs=True)
