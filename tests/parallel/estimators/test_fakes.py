"""A fake world is left clean."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from parallel.estimators.fakes import fake_world


def test_a_fake_world_has_its_size_and_leaves_none_behind() -> None:
    with fake_world(96):
        assert dist.get_world_size() == 96
        with pytest.raises(RuntimeError, match="process of its own"), fake_world(2):
            pass
    assert not dist.is_initialized()
