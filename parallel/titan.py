"""The one place that touches TorchTitan's private or fragile edges; every other file takes TorchTitan through it.

TorchTitan 0.3.0 assumes an accelerator and a later torch than 2.13. Three things are bridged, before any other of its
modules is imported, as they bind these names when they are:

1. without an accelerator, `torchtitan.tools.utils.device_type` and `device_module` become the host's;
2. `torch.distributed.set_timeout`, which `Trainer.train` calls after its first step, is defined over the private call
   that torch 2.13 still has in its place;
3. gloo has no PREMUL_SUM, which FSDP2 picks for TorchTitan's gradient factor of 1: see `sum_gradients`.

Importing TorchTitan also switches Python's garbage collector to manual and turns off multi-threaded autograd.
"""

from __future__ import annotations

import datetime
import os
import socket
import warnings
from bisect import bisect_right
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torchtitan.tools.utils as _titan_utils
from torch import nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.fsdp import FSDPModule

from parallel.host import HostModule


def _bridge() -> None:
    # Initial weights and noise never come from DTensor's generators; its warning about them says nothing here.
    warnings.filterwarnings("ignore", message="DTensor (random operators|manual_seed)", category=UserWarning)
    # The last block hands its text tokens through; nothing writes into them.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view", category=UserWarning)
    if not torch.accelerator.is_available():
        _titan_utils.device_type = "cpu"
        _titan_utils.device_module = HostModule()  # type: ignore[assignment]
    if not hasattr(dist, "set_timeout"):

        def set_timeout(timeout: datetime.timedelta, group: dist.ProcessGroup | None = None) -> None:
            _set_pg_timeout(timeout, group)

        dist.set_timeout = set_timeout  # type: ignore[attr-defined]


_bridge()

from torchtitan.components.checkpointer import BaseCheckpointManager, CheckpointManager  # noqa: E402
from torchtitan.components.checkpointer.utils import canonical_fqn  # noqa: E402
from torchtitan.components.dataloader import BaseDataLoader  # noqa: E402
from torchtitan.components.loss import MSELoss  # noqa: E402
from torchtitan.components.metrics import MetricsProcessor  # noqa: E402
from torchtitan.components.optimizer import (  # noqa: E402
    LRSchedulersContainer,
    OptimizersContainer,
    ParamGroupConfig,
)
from torchtitan.components.tokenizer import BaseTokenizer  # noqa: E402
from torchtitan.config import TORCH_DTYPE_MAP  # noqa: E402
from torchtitan.config.configs import (  # noqa: E402
    CommConfig,
    CompileConfig,
    DebugConfig,
    ParallelismConfig,
    TrainingConfig,
)
from torchtitan.distributed import ParallelDims  # noqa: E402
from torchtitan.distributed.activation_checkpoint import (  # noqa: E402
    ActivationCheckpointingConfig,
    FullAC,
    SelectiveAC,
)
from torchtitan.distributed.fsdp import disable_fsdp_gradient_division  # noqa: E402
from torchtitan.distributed.utils import clip_grad_norm_, set_spmd_backend  # noqa: E402
from torchtitan.models.common.linear import Linear  # noqa: E402
from torchtitan.models.common.nn_modules import RMSNorm  # noqa: E402
from torchtitan.protocols import BaseModel  # noqa: E402
from torchtitan.protocols.model_spec import ModelSpec  # noqa: E402
from torchtitan.protocols.module import Module, ModuleDict  # noqa: E402
from torchtitan.protocols.state_dict_adapter import StateDictAdapter  # noqa: E402
from torchtitan.trainer import Trainer  # noqa: E402

__all__ = [
    "TORCH_DTYPE_MAP",
    "ActivationCheckpointingConfig",
    "BaseDataLoader",
    "BaseModel",
    "BaseTokenizer",
    "CheckpointManager",
    "CommConfig",
    "CompileConfig",
    "DebugConfig",
    "FullAC",
    "LRSchedules",
    "Linear",
    "MSELoss",
    "MetricsProcessor",
    "ModelSpec",
    "Module",
    "ModuleDict",
    "Optimizers",
    "OptimizersContainer",
    "ParallelDims",
    "ParallelismConfig",
    "ParamGroupConfig",
    "RMSNorm",
    "SelectiveCheckpointing",
    "StateDictAdapter",
    "Trainer",
    "TrainingConfig",
    "add_checkpoint_state",
    "canonical_fqn",
    "clip_grad_norm_",
    "device_name",
    "float8_linears",
    "is_non_finite_loss",
    "latest_step",
    "process_group_environment",
    "set_spmd_backend",
    "sum_gradients",
]


class SelectiveCheckpointing(SelectiveAC):
    """TorchTitan's choice of what to keep, which knows the kernels of GPUs, and those that a CPU has in their place."""

    @dataclass(kw_only=True, slots=True)
    class Config(SelectiveAC.Config):
        force_recompute_mm_shapes_by_fqns: list[str] = field(default_factory=list)

    def get_save_ops(self) -> set[Any]:
        """Operators whose outputs are kept."""
        own = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default}
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            own.add(torch.ops.mkldnn._linear_pointwise.default)
        return super().get_save_ops() | own


def float8_linears(config: BaseModel.Config, *, skip: list[str], compiled: bool, emulate: bool = False) -> None:
    """Let the linear layers of a configuration compute in float8, scaled by rows, through torchao.

    Args:
        config: of the model, changed in place.
        skip: layers whose name contains one of these stay as they are.
        compiled: whether blocks are compiled.
        emulate: compute what float8 would give on hardware that lacks it; slow.

    Raises:
        ImportError: torchao is not installed.
        ValueError: the device has no float8.
    """
    from torchtitan.components.quantization import Float8LinearConverter

    settings = Float8LinearConverter.Config(filter_fqns=skip, model_compile_enabled=compiled, emulate=emulate)
    Float8LinearConverter(settings).convert(config)


class Optimizers(OptimizersContainer):
    """TorchTitan's optimisers, and torch's Muon, which TorchTitan 0.3.0 does not know by name."""

    @dataclass(kw_only=True, slots=True)
    class Config(OptimizersContainer.Config):
        pass

    @staticmethod
    def _resolve_optimizer_factory(name: str) -> Callable[..., torch.optim.Optimizer]:
        if name == "Muon":
            return torch.optim.Muon
        return OptimizersContainer._resolve_optimizer_factory(name)


class LRSchedules(LRSchedulersContainer):
    """TorchTitan's schedule (warm-up, constant, decay) times a factor that changes after given steps.

    Like TorchTitan's it is a function of the step alone, so a resumed run goes on exactly. Its metrics also tell
    `lr/base`, the rate of parameters that have no factor of their own.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(LRSchedulersContainer.Config):
        base_lr: float
        change_steps: tuple[int, ...] = ()
        """Ascending; optimiser steps after the first `change_steps[i]` have the factor `change_factors[i]`."""
        change_factors: tuple[float, ...] = ()

        def build(self, *, optimizers: OptimizersContainer, training_steps: int) -> LRSchedules:
            """The schedules of all optimisers.

            Args:
                optimizers: whose rates they set.
                training_steps: of the run.
            """
            plain = LRSchedulersContainer.Config.build(self, optimizers=optimizers, training_steps=training_steps)
            (shape, *_) = plain.schedulers[0].lr_lambdas  # type: ignore[attr-defined]
            steps, factors = self.change_steps, (1.0, *self.change_factors)
            return LRSchedules(optimizers, lambda step: shape(step) * factors[bisect_right(steps, step)], self.base_lr)

    def __init__(self, optimizers: OptimizersContainer, lr_lambda: Callable[[int], float], base_lr: float) -> None:
        super().__init__(optimizers, lr_lambda)
        self.lr_lambda, self.base_lr = lr_lambda, base_lr

    def get_metrics(self) -> dict[str, float]:
        """The rate of every group of every optimiser, and the base rate, for the step at hand."""
        return {**super().get_metrics(), "lr/base": self.base_lr * self.lr_lambda(self.schedulers[0].last_epoch)}


def sum_gradients(model: nn.Module, device_type: str) -> None:
    """Make FSDP2 add gradients up without dividing them: the loss is already divided by the global element count.

    Args:
        model: a model whose blocks went through `fully_shard`.
        device_type: of the mesh; on a CPU the plain sum is forced, since gloo lacks PREMUL_SUM.
    """
    disable_fsdp_gradient_division(model)
    if device_type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)


def is_non_finite_loss(error: RuntimeError) -> bool:
    """Whether an error is the one that TorchTitan's `train_step` raises when the global loss is not finite.

    Args:
        error: what `train_step` raised.
    """
    return "Loss is not finite" in str(error)


def add_checkpoint_state(checkpointer: BaseCheckpointManager, name: str, state: Stateful) -> None:
    """Save and restore one more state with the trainer's own.

    Args:
        checkpointer: of the trainer, with checkpoints on.
        name: the state's key in the checkpoint.
        state: gives its tensors, into which a checkpoint is read in place.
    """
    assert isinstance(checkpointer, CheckpointManager)
    checkpointer.states[name] = state


def latest_step(checkpointer: BaseCheckpointManager) -> int:
    """The step of the newest complete checkpoint, from which training will go on; 0 where there is none.

    Args:
        checkpointer: of the trainer, with checkpoints on.
    """
    assert isinstance(checkpointer, CheckpointManager)
    return max(checkpointer._find_load_step(), 0)


def device_name() -> str:
    """The name of the device that this process trains on."""
    return _titan_utils.device_module.get_device_name()


@contextmanager
def process_group_environment() -> Generator[None]:
    """Give a process that no launcher started the variables of a world of one; under a launcher change nothing.

    A world of one meets itself at a free loopback port, so that runs side by side do not collide.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.environ.update(alone)
    try:
        yield
    finally:
        for name in alone:
            os.environ.pop(name, None)
