"""A run's model with the weights of one of its checkpoints, on one device, without any process group."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint

from parallel.checkpoints import defect
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.evaluation.due import checkpoint_steps
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.runs.rows import Weights


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
        InputError: there is no such checkpoint, or files of it are missing or cut short.
    """
    path = folder / "checkpoint" / f"step-{step}"
    if not (path / ".metadata").exists():
        kept = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise InputError(f"{path}: no complete checkpoint; steps kept: {kept}")
    if reason := defect(path):
        raise InputError(f"{path}: this checkpoint is damaged: {reason}; training the run again writes it anew")
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
