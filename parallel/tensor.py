"""Styles of tensor, sequence and context parallelism that torch's own do not have, for `parallelize_module`.

A model marks the places where its activations change hands with modules that do nothing by themselves, its boundaries;
a plan gives a style to each of them, as it does to the linear layers. Activations between those are plain tensors.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import ParallelStyle, PrepareModuleOutput, parallelize_module

TOKENS = 1
"""The dimension of (B, L, ...) activations that sequence and context parallelism share out."""

Plan = dict[str, ParallelStyle]
"""Module name -> style."""


def apply_plan(model: nn.Module, mesh: DeviceMesh, plan: Plan) -> None:
    """Change modules in place, each by its style.

    Args:
        model: on any device.
        mesh: one-dimensional.
        plan: every name in it must be a module of the model.
    """
    for name, style in plan.items():
        parallelize_module(model.get_submodule(name), mesh, style)


def enter(*, shared: bool) -> ParallelStyle:
    """Of a boundary before column-parallel layers: the tokens come out whole, as one DTensor.

    Several layers that take it add their gradients up before these are reduced once, not once a layer.

    Args:
        shared: the tokens come in shared out over the processes, and are gathered; their gradients are scattered.
    """
    incoming = Shard(TOKENS) if shared else Replicate()
    return PrepareModuleOutput(output_layouts=incoming, desired_output_layouts=Replicate(), use_local_output=False)


def split_tokens() -> ParallelStyle:
    """Of a boundary where whole tokens, equal everywhere, are shared out; gradients are gathered."""
    return PrepareModuleOutput(output_layouts=Replicate(), desired_output_layouts=Shard(TOKENS))


def join_tokens() -> ParallelStyle:
    """Of a boundary where shared-out tokens become whole; of their gradient, equal everywhere, each takes its own."""
    return PrepareModuleOutput(output_layouts=Shard(TOKENS), desired_output_layouts=Replicate())


class OutputStyle(ParallelStyle):
    """A style that only changes what comes out of a module."""

    @abstractmethod
    def change(self, tensor: Tensor, mesh: DeviceMesh) -> Tensor:
        """What stands in for an output."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
            if isinstance(output, tuple):
                return tuple(self.change(each, device_mesh) for each in output)
            return self.change(output, device_mesh)

        module.register_forward_hook(hook)
        return module


class SumGradients(OutputStyle):
    """Of a boundary whose output, equal everywhere, meets other tokens on each process: gradients are added up."""

    def change(self, tensor: Tensor, mesh: DeviceMesh) -> Tensor:
        """The tensor itself; backward, an all-reduce."""
        return DTensor.from_local(tensor, mesh, [Replicate()], run_check=False).to_local(grad_placements=[Partial()])


class OwnTokens(OutputStyle):
    """Of a boundary where each process goes on with its part of the tokens; the rest of the gradient is zero.

    Right where the weights before it have their gradients added up over these processes, as FSDP does.
    """

    def change(self, tensor: Tensor, mesh: DeviceMesh) -> Tensor:
        """(B, L, ...) -> (B, L / processes, ...)."""
        return tensor.chunk(mesh.size(), dim=TOKENS)[mesh.get_local_rank()]


class GatherTokens(OutputStyle):
    """Of a boundary where each process needs the tokens of all; gradients are added up and go back to their owners."""

    def change(self, tensor: Tensor, mesh: DeviceMesh) -> Tensor:
        """(B, L / processes, ...) -> (B, L, ...)."""
        part = DTensor.from_local(tensor, mesh, [Shard(TOKENS)], run_check=False)
        return part.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


class WholeParameters(ParallelStyle):
    """Of a module that every process computes in full: its parameters are replicated, its output is a plain tensor."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def plain(module: nn.Module, inputs: object, output: object) -> object:
            return output.to_local() if isinstance(output, DTensor) else output

        module.register_forward_hook(plain)
        return distribute_module(module, device_mesh)
