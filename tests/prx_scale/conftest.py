"""What several files of tests train on, or study: it takes longest to make."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny encoders, images of several sizes, and the stores that they are encoded into."""
    # The encoders need torch and more, which other tests do without.
    from tests.prx_scale.training.images import write_world

    return write_world(tmp_path_factory.mktemp("world"))
