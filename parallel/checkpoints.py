"""Whether a checkpoint on disk is whole: DCP marks a save as finished, but not that its files are all still there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METADATA = ".metadata"
_STEP = re.compile(r"step-(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A checkpoint that was finished once and cannot be read any more."""

    folder: Path
    """Where it was."""
    reason: str
    kept_as: Path
    """Where it is now, out of the way of TorchTitan, which would choose it as the newest."""


def defect(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None where all of its files are there in full.

    Reads the metadata and the sizes of the files, not the tensors.

    Args:
        checkpoint: its folder.

    Raises:
        OSError: the disk does not let it be read.
    """
    from torch.distributed.checkpoint.filesystem import (
        FileSystemReader,
    )  # the names of checkpoints are read without torch

    if not (checkpoint / METADATA).is_file():
        return f"has no {METADATA}: the save was not finished"
    try:
        needed = _bytes_needed(FileSystemReader(checkpoint).read_metadata())
    except OSError:  # a disk that does not answer now says nothing about the checkpoint
        raise
    except Exception as error:  # a pickle cut short raises whatever its next byte leads to
        return f"{METADATA} cannot be read ({type(error).__name__}: {error})"
    for name, size in sorted(needed.items()):
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size < size:
            return f"{name} has {file.stat().st_size:,} of {size:,} bytes"
    return None


def _bytes_needed(metadata: Any) -> dict[str, int]:
    """File name -> least size, from DCP's table of where each piece of a tensor is."""
    needed: dict[str, int] = {}
    for place in metadata.storage_data.values():
        end = place.offset + place.length
        needed[place.relative_path] = max(needed.get(place.relative_path, 0), end)
    return needed


def finished_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints whose save was finished, in order.

    Args:
        folder: has one folder a checkpoint, `step-N`.
    """
    found = [_STEP.search(file.parent.name) for file in folder.glob(f"step-*/{METADATA}")]
    return sorted(int(match.group(1)) for match in found if match)


def set_aside_damaged(folder: Path) -> list[Damaged]:
    """Rename the newest checkpoints as long as they are damaged, so that the newest sound one is resumed from.

    Nothing is deleted. A save that was not finished is no checkpoint and stays, to be written again.

    Args:
        folder: has one folder a checkpoint, `step-N`.

    Returns:
        What was renamed, the newest first.
    """
    damaged: list[Damaged] = []
    for step in reversed(finished_steps(folder)):
        checkpoint = folder / f"step-{step}"
        reason = defect(checkpoint)
        if reason is None:
            break
        kept_as = _free_name(folder / f"damaged-{step}")
        checkpoint.rename(kept_as)
        damaged.append(Damaged(folder=checkpoint, reason=reason, kept_as=kept_as))
    return damaged


def _free_name(path: Path) -> Path:
    number, name = 1, path
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.{number}")
    return name
