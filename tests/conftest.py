"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shared or busy machine makes single examples slow at random; a deadline would only test the machine.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
