"""A job that training would be told of."""

from __future__ import annotations

from prx_scale.attempts import Job


def job(restart: int = 0, **changes: object) -> Job:
    fields = {
        "id": "12_3",
        "limit_seconds": 300.0,
        "signal_seconds": 90.0,
        "max_restarts": 20,
        "max_fruitless": 3,
        "started": 0.0,
        **changes,
    }
    return Job(restart=restart, **fields)  # type: ignore[arg-type]
