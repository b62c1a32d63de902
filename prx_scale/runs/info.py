"""run.json: what a run is and how it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from prx_scale.errors import InputError

SCHEMA = 1


class State(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Trainable parameters of the diffusion backbone, with its embedders counted apart."""

    backbone: int
    """Blocks and final layer: the N of a scaling law."""
    embedding: int
    """Patch, time, pooled-text, size and context embedders, and trained positions."""
    by_part: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def total(self) -> int:
        """All trainable parameters."""
        return self.backbone + self.embedding


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """run.json: what the run is (configuration, sizes, versions) and how it stands (state, step)."""

    run: str
    study: str
    variant: str
    state: State
    config: dict[str, Any]
    depth: int
    seed: int
    parameters: Parameters
    flops_per_sample: int
    """Training FLOPs of one image: three times the forward pass."""
    tokens_per_sample: int
    """Image tokens of one image."""
    versions: dict[str, str]
    device: str
    world_size: int
    steps: int
    created: str
    updated: str
    commit: str | None = None
    dirty: bool | None = None
    reason: str | None = None
    """Why a run failed or was interrupted, in words."""
    wall_seconds: float = 0.0
    """Time spent training, over all restarts."""
    step: int = 0
    last_good_step: int | None = None
    """Of a failed run: the last step whose loss was finite."""
    folder: Path = field(default_factory=Path, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The content of run.json."""
        record = asdict(self)
        del record["folder"]
        record["parameters"] = {**record["parameters"], "total": self.parameters.total}
        return {"schema": SCHEMA, **record}

    @classmethod
    def from_json(cls, record: dict[str, Any], folder: Path) -> RunInfo:
        """Read what `to_json` wrote.

        Args:
            record: the parsed run.json.
            folder: the run's folder.

        Raises:
            InputError: a field is missing, or the schema is newer than this package.
        """
        path = folder / "run.json"
        if record.get("schema") != SCHEMA:
            raise InputError(f"{path}: 'schema' is {record.get('schema')!r}, this version reads {SCHEMA}")
        fields = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        try:
            parameters = dict(fields["parameters"])
            parameters.pop("total", None)
            fields["parameters"] = Parameters(**parameters)
            fields["state"] = State(fields["state"])
            return cls(**fields, folder=folder)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a complete run record ({error})") from error
