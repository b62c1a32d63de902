"""Spread a model of repeated blocks over the mesh, in the order that torch 2.13 needs: compile, checkpoint, shard."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from parallel.titan import (
    TORCH_DTYPE_MAP,
    ActivationCheckpointingConfig,
    CompileConfig,
    ParallelDims,
    ParallelismConfig,
    TrainingConfig,
    sum_gradients,
)


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
    """TorchTitan's `parallelize_fn` for any model whose blocks are in `model.layers`.

    Args:
        model: on the meta device.
        parallel_dims: the mesh.
        training: says the precision of the products and of the gradient reduction.
        parallelism: says when FSDP2 reshards.
        compile_config: whether each block is compiled.
        ac_config: activation checkpointing of the blocks, or None.
        dump_folder: where the checkpointing policy may write.

    Returns:
        The same model, changed in place.
    """
    layers = model.get_submodule("layers")
    if compile_config.enable and "model" in compile_config.components:
        for block in layers.children():
            block.compile(backend=compile_config.backend, fullgraph=True)
    if ac_config is not None:
        ac_config.build(dump_folder=dump_folder).apply(model)
    param_dtype = TORCH_DTYPE_MAP[training.mixed_precision_param]
    if _needs_sharding(parallel_dims, param_dtype):
        policy = MixedPrecisionPolicy(
            param_dtype=param_dtype,
            reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],
            # The model casts its own inputs: the timestep must reach its sinusoids in float32.
            cast_forward_inputs=False,
        )
        reshard = parallelism.fsdp_reshard_after_forward != "never"
        shard(model, _mesh(parallel_dims), policy, reshard_after_forward=reshard)
    return model


def _needs_sharding(parallel_dims: ParallelDims, param_dtype: torch.dtype) -> bool:
    """One process in float32 has nothing to gather, reduce or cast; FSDP2 would only add copies."""
    return parallel_dims.world_size > 1 or param_dtype != torch.float32


def _mesh(parallel_dims: ParallelDims) -> DeviceMesh:
    if parallel_dims.dp_replicate_enabled:
        return parallel_dims.get_mesh(["dp_replicate", "fsdp"])
    return parallel_dims.get_mesh(["fsdp"])


def shard(model: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, *, reshard_after_forward: bool) -> None:
    """FSDP2: a unit per block, one for the rest; gradients are summed, not averaged.

    Args:
        model: its blocks in `model.layers`.
        mesh: one-dimensional to shard, two-dimensional (replicate, shard) for HSDP.
        policy: precision of parameters in use and of the gradient reduction.
        reshard_after_forward: free the gathered weights of a block between its forward and backward pass.
    """
    for block in model.get_submodule("layers").children():
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    sum_gradients(model, mesh.device_type)
