"""The weights of a run's checkpoint, read one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint

from parallel.checkpoints import defect
from prx_scale.errors import InputError
from prx_scale.models.convert.tensors import Read
from prx_scale.models.names import TensorShape
from prx_scale.runs.rows import Weights


def checkpoint_reader(checkpoint: Path, weights: Weights, shapes: Mapping[str, TensorShape]) -> Read:
    """Gives the parameters of a complete checkpoint.

    Args:
        checkpoint: its folder.
        weights: raw or ema.
        shapes: of the parameters.

    Raises:
        InputError: files of the checkpoint are missing or cut short.
    """
    if reason := defect(checkpoint):
        raise InputError(f"{checkpoint}: this checkpoint is damaged: {reason}; --step chooses another")

    def read(name: str) -> Tensor:
        state = {name: torch.empty(shapes[name])}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
            load_checkpoint({"ema": state} if weights == "ema" else state, checkpoint_id=checkpoint, no_dist=True)
        return state[name]

    return read
