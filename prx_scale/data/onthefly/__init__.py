"""Encoding while training: processes read, decode and encode ahead of the trainer, in the order of training.

:mod:`survey` finds out the bucket of every sample beforehand, so that :mod:`schedule` can name the batches of any step.
:mod:`making` makes one of them; :mod:`producing` does it in other processes, which hand it over in the memory of
:mod:`slots`; :mod:`stream` gives them to the trainer, and knows who waits for whom.
"""

from __future__ import annotations

from prx_scale.data.onthefly.schedule import Schedule
from prx_scale.data.onthefly.stream import OnTheFly

__all__ = ["OnTheFly", "Schedule"]
