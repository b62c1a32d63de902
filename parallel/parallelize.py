"""Spread a model of repeated blocks over the mesh, in the order that torch 2.13 needs.

Context parallel and tensor parallel first, while modules are plain; then compile and activation checkpointing of each
block; FSDP2 last. With DTensors inside a block the checkpointing must be around the compiled block, since a compiled
block around a checkpointed one fails in torch 2.13.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from parallel.tensor import Plan, apply_plan
from parallel.titan import (
    TORCH_DTYPE_MAP,
    ActivationCheckpointingConfig,
    CompileConfig,
    ParallelDims,
    ParallelismConfig,
    SelectiveCheckpointing,
    TrainingConfig,
    sum_gradients,
)

MOST_SHAPES = 256
"""Graphs of a block where each shape has its own, for buckets of all stages, in training and validation."""


class Spreadable(Protocol):
    """A model that says how its modules are shared out."""

    def tensor_plan(self, *, sequence: bool) -> Plan:
        """Styles over the tensor-parallel processes; with sequence, tokens between products are shared out too."""
        ...

    def context_plan(self) -> Plan:
        """Styles over the context-parallel processes."""
        ...

    def get_submodule(self, target: str) -> nn.Module:
        """A module by name; the blocks are in `layers`."""
        ...


def parallelize(
    model: nn.Module,
    *,
    parallel_dims: ParallelDims,
    training: TrainingConfig,
    parallelism: ParallelismConfig,
    compile_config: CompileConfig,
    ac_config: ActivationCheckpointingConfig,
    dump_folder: str,
) -> nn.Module:
    """TorchTitan's `parallelize_fn` for any model whose blocks are in `model.layers` and which is `Spreadable`.

    Args:
        model: on the meta device.
        parallel_dims: the mesh.
        training: says the precision of the products and of the gradient reduction.
        parallelism: says whether tokens are shared out under tensor parallelism, and when FSDP2 reshards.
        compile_config: whether each block is compiled.
        ac_config: activation checkpointing of the blocks, or None.
        dump_folder: where the checkpointing policy may write.

    Returns:
        The same model, changed in place.
    """
    spread_activations(model, parallel_dims, sequence=parallelism.enable_sequence_parallel)
    _compile_and_checkpoint(model, compile_config, ac_config, dump_folder, each_shape=parallel_dims.tp_enabled)
    param_dtype = TORCH_DTYPE_MAP[training.mixed_precision_param]
    if _needs_sharding(parallel_dims, param_dtype):
        policy = MixedPrecisionPolicy(
            param_dtype=param_dtype,
            reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],
            # The model casts its own inputs: the timestep must reach its sinusoids in float32.
            cast_forward_inputs=False,
        )
        shard(model, _mesh(parallel_dims), policy, parallelism.fsdp_reshard_after_forward)
    return model


def spread_activations(model: nn.Module, parallel_dims: ParallelDims, *, sequence: bool) -> None:
    """Context and tensor parallelism, where the mesh has them.

    Args:
        model: is `Spreadable`; changed in place.
        parallel_dims: the mesh.
        sequence: under tensor parallelism, share out the tokens between products too.
    """
    spreadable: Spreadable = model  # type: ignore[assignment]
    if parallel_dims.cp_enabled:
        apply_plan(model, parallel_dims.get_mesh("cp"), spreadable.context_plan())
    if parallel_dims.tp_enabled:
        apply_plan(model, parallel_dims.get_mesh("tp"), spreadable.tensor_plan(sequence=sequence))


def _compile_and_checkpoint(
    model: nn.Module,
    compile_config: CompileConfig,
    ac_config: ActivationCheckpointingConfig,
    dump_folder: str,
    *,
    each_shape: bool,
) -> None:
    """Compiled blocks inside full checkpointing; selective checkpointing inside, where the compiler can see it.

    Each shape of images is compiled by itself where torch 2.13 cannot leave sizes open: under tensor parallelism.
    """
    selective = isinstance(ac_config, SelectiveCheckpointing.Config)
    if ac_config is not None and selective:
        ac_config.build(dump_folder=dump_folder).apply(model)
    if compile_config.enable and "model" in compile_config.components:
        for block in model.get_submodule("layers").children():
            shapes = {"dynamic": False, "recompile_limit": MOST_SHAPES} if each_shape else {}
            block.compile(backend=compile_config.backend, fullgraph=True, **shapes)
    if ac_config is not None and not selective:
        ac_config.build(dump_folder=dump_folder).apply(model)


def _needs_sharding(parallel_dims: ParallelDims, param_dtype: torch.dtype) -> bool:
    """One process in float32 has nothing to gather, reduce or cast; FSDP2 would only add copies."""
    return parallel_dims.world_size > 1 or param_dtype != torch.float32


def _mesh(parallel_dims: ParallelDims) -> DeviceMesh:
    if parallel_dims.dp_replicate_enabled:
        return parallel_dims.get_mesh(["dp_replicate", "fsdp"])
    return parallel_dims.get_mesh(["fsdp"])


def shard(model: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, reshard: str) -> None:
    """FSDP2: a unit per block, one for the rest; gradients are summed, not averaged.

    Args:
        model: its blocks in `model.layers`.
        mesh: one-dimensional to shard, two-dimensional (replicate, shard) for HSDP.
        policy: precision of parameters in use and of the gradient reduction.
        reshard: when gathered weights are freed between forward and backward pass: "always", "never", or "default":
            those of every block but the last, which the backward pass needs first.
    """
    *blocks, last = model.get_submodule("layers").children()
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard != "never")
    fully_shard(last, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard == "always")
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard == "always")
    if mesh.size() > 1:  # alone there is nothing to add up, and FSDP2 would divide by one, into a copy
        sum_gradients(model, mesh.device_type)
