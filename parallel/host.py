"""A device module for machines without an accelerator, in the form that TorchTitan asks of `torch.cuda` and its kin."""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class HostProperties:
    """What TorchTitan reads of a device's properties."""

    total_memory: int
    """Bytes of main memory."""


class HostModule:
    """The CPU, seen as TorchTitan sees an accelerator."""

    def set_device(self, device: torch.device | int) -> None:
        """There is one host; nothing to choose."""

    def device_count(self) -> int:
        """One."""
        return 1

    def current_device(self) -> int:
        """Index 0, an int: `dist.barrier(device_ids=...)` refuses the text that `torch.cpu` gives."""
        return 0

    def synchronize(self, device: object = None) -> None:
        """CPU operations are synchronous."""

    def get_device_name(self, device: object = None) -> str:
        """The processor's name."""
        return processor_name()

    def get_device_properties(self, device: object = None) -> HostProperties:
        """Main memory, in bytes."""
        return HostProperties(total_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    def memory_stats(self, device: object = None) -> dict[str, int]:
        """Peak memory of the process, under the keys of `torch.cuda.memory_stats`."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"active_bytes.all.peak": peak, "reserved_bytes.all.peak": peak}

    def reset_peak_memory_stats(self, device: object = None) -> None:
        """The kernel keeps the process's peak for its lifetime."""

    def empty_cache(self) -> None:
        """There is no caching allocator."""


def processor_name() -> str:
    """The processor's model name, as the kernel tells it."""
    return _first_line("model name") or platform.processor() or platform.machine()


def processor_maker() -> str:
    """The processor's maker as it names itself, as GenuineIntel; empty where the kernel tells none."""
    return _first_line("vendor_id")


def processor_flags() -> frozenset[str]:
    """The instruction sets of the processor; empty where the kernel tells none."""
    return frozenset(_first_line("flags").split())


def _first_line(name: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.split(":", 1)[0].strip() == name:
                return line.split(":", 1)[1].strip()
    return ""
