"""What counts as damage of a checkpoint, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_saver import save

from parallel.checkpoints import defect, set_aside_damaged


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_disk_that_does_not_answer_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a checkpoint would be set aside for a passing fault of the file system."""
    save({"w": torch.ones(3)}, checkpoint_id=tmp_path / "step-1", no_dist=True)
    assert defect(tmp_path / "step-1") is None

    def fails(self: FileSystemReader) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(FileSystemReader, "read_metadata", fails)
    with pytest.raises(OSError, match="Input/output error"):
        set_aside_damaged(tmp_path)
    assert (tmp_path / "step-1" / ".metadata").exists()
