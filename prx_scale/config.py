"""One fully resolved run: its tables, its id, and what follows from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from prx_scale.data.captions import CaptionTable
from prx_scale.encodingtable import Encoding
from prx_scale.runtables import Checkpoint, Data, Evaluation, Logging, Model, Objective, Parallel, Training, Validation
from prx_scale.stagetables import Stage, stages_identity
from prx_scale.tables import chosen


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides one run."""

    study: str
    variant: str = "base"
    smoke: bool = False
    model: Model
    data: Data = field(default_factory=Data)
    captions: CaptionTable = field(default_factory=CaptionTable)
    encoding: Encoding = field(default_factory=Encoding)
    objective: Objective = field(default_factory=Objective)
    training: Training
    validation: Validation = field(default_factory=Validation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    evaluation: Evaluation = field(default_factory=Evaluation)
    parallel: Parallel = field(default_factory=Parallel)
    logging: Logging = field(default_factory=Logging)
    stages: tuple[Stage, ...] = ()
    """What the run goes through, in order; none is one stage of `training.steps`."""

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the configuration that changes what a run's weights and losses are, where it is not the default.

        Defaults are left out so that a key that a later version adds does not rename the runs there are. A default
        must therefore never change.
        """
        tables = (self.model, self.data, self.objective, self.training, self.validation)
        identity: dict[str, Any] = {type(table).__name__.lower(): chosen(table) for table in tables}
        if captions := chosen(self.captions):
            identity["captions"] = captions
        return {**identity, "stage": stages_identity(self.stages)} if self.stages else identity

    @property
    def id(self) -> str:
        """A readable prefix and a hash of the identity: the same configuration is always the same run."""
        text = json.dumps(self.identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        middle = "" if self.variant == "base" else f"-{self.variant}"
        return f"d{self.model.depth}{middle}-s{self.training.seed}-{digest}"

    @property
    def on_the_fly(self) -> bool:
        """Whether something is encoded while training: images, or the captions of a store."""
        return self.data.dataset == "images" or (self.data.dataset == "store" and bool(self.encoding.text_encoders))

    @property
    def grid_side(self) -> int:
        """Patches along one side of an image."""
        return self.data.image_size // (self.data.downsampling * self.model.patch)

    @property
    def tokens_per_sample(self) -> int:
        """Image tokens of one square image; those of other buckets have about as many."""
        return self.grid_side**2

    @property
    def token_counts(self) -> tuple[int, ...]:
        """Image tokens of an image of each shape that there is, in ascending order."""
        if not self.data.encoded:
            return (self.tokens_per_sample,)
        pixels = self.data.downsampling * self.model.patch
        resolutions = {size: shapes for size, *shapes in self.data.said("buckets")}
        sides = (map(int, shape.split("x")) for shape in resolutions.get(str(self.data.image_size), ()))
        return tuple(sorted({(height // pixels) * (width // pixels) for height, width in sides}))

    @property
    def shift(self) -> float:
        """alpha, the factor that moves training and sampling times towards noise (Esser et al. 2024, section 5.3.2)."""
        base = self.objective.shift_base
        return self.objective.shift * (self.data.image_size / base if base else 1.0)

    @property
    def evaluated_steps(self) -> list[int]:
        """Steps whose checkpoints are evaluated: those of the regular interval, and the last."""
        regular = range(self.checkpoint.every, self.training.steps, self.checkpoint.every)
        return [*regular, self.training.steps]

    def to_json(self) -> dict[str, Any]:
        """The configuration as it stands in run.json."""
        return asdict(self)
