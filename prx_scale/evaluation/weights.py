"""A run's model with the weights of one of its checkpoints, on one device, without any process group."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint

from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.runs import Weights


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, in order.

    Args:
        folder: of the run.
    """
    pattern = re.compile(r"step-(\d+)$")
    found = [pattern.search(file.parent.name) for file in folder.glob("checkpoint/step-*/.metadata")]
    return sorted(int(match.group(1)) for match in found if match)


def load_model(run: RunConfig, folder: Path, step: int, weights: Weights) -> MMDiT:
    """Build a run's model and read one kind of weights into it.

    Args:
        run: the run.
        folder: its folder.
        step: of a complete checkpoint.
        weights: raw or ema.

    Returns:
        The model in evaluation mode, float32, on the accelerator where there is one.

    Raises:
        InputError: there is no such checkpoint.
    """
    path = folder / "checkpoint" / f"step-{step}"
    if not (path / ".metadata").exists():
        kept = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise InputError(f"{path}: no complete checkpoint; steps kept: {kept}")
    config = backbone_config(run)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device=device)
    with torch.no_grad():
        model.init_weights()
    state = {name: parameter.detach() for name, parameter in model.named_parameters()}
    # Tensors are read in place; the averages have a name of their own in the checkpoint.
    load_checkpoint({"ema": state} if weights == "ema" else dict(state), checkpoint_id=path, no_dist=True)
    return model.eval()
