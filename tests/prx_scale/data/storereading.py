"""What other processes do with a store; without torch, so that they start soon."""

from __future__ import annotations

import sys
from multiprocessing.queues import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from prx_scale.data.store import Store


def read(store: Store, numbers: NDArray[np.int64], answers: SimpleQueue[tuple[bytes, bool]]) -> None:
    """Answer with the bits of a batch, and whether torch was needed."""
    answers.put((store.at(32).batch(numbers).latents.bits.tobytes(), "torch" in sys.modules))
