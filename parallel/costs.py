"""What a training step costs one process, as counted: memory by kind at marked moments, and its operators.

Plain numbers, which need no torch to be read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device at one moment, by kind."""

    parameters: int = 0
    gradients: int = 0
    activations: int = 0
    """Kept for the backward pass or in use by it, gradients of activations included."""
    inputs: int = 0
    """Batches and buffers."""
    communication: int = 0
    """Gathered parameters, their gradients, and what collectives read and write."""

    @property
    def total(self) -> int:
        """Over all kinds."""
        return sum(vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Memory at marked moments of one forward and backward pass through a model of blocks."""

    before: Memory
    peak: Memory
    """Of both passes."""
    entering: tuple[Memory, ...]
    """When the forward pass enters each block."""
    forward: tuple[Memory, ...]
    """Highest within each block's forward pass."""
    backward: tuple[Memory, ...]
    """Highest within each block's backward pass; empty where there was none."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operator, as one process runs it."""

    phase: str
    """Of the step."""
    name: str
    flops: int = 0
    """Of a matrix product or an attention."""
    moved: int = 0
    """Bytes read and written, each tensor once."""
    fused: int = 0
    """The same where neighbours without products were one kernel: its operators together, noted at the first."""
    group: tuple[int, ...] = ()
    """Of a collective: the ranks that take part."""
    sent: int = 0
    """Of a collective: bytes of the whole tensor, before it is scattered or after it is gathered."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operators of a forward and backward pass, or of what follows them."""

    all: tuple[Operation, ...]
    block: tuple[Operation, ...] = ()
    """Those that one block in the middle adds, forward and backward."""
