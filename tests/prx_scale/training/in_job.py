"""One process of a cluster job, as the job's own callable starts it.

Arguments: the study folder, the `Job` as JSON, and where one process is to fail, its rank and the step: `1:5`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from prx_scale import stopping
from prx_scale.attempts import Job


def fail_at(step: int) -> None:
    """Let this process meet a sample that it cannot use."""
    from prx_scale.training.trainer import DiffusionTrainer

    whole = DiffusionTrainer.post_dataloading_process

    def broken(self: DiffusionTrainer, *batch: Any) -> Any:
        if self.step == step:
            raise ValueError("a sample has no image\nand more about it")
        return whole(self, *batch)

    DiffusionTrainer.post_dataloading_process = broken  # type: ignore[method-assign]


def main() -> int:
    study, job, *failure = sys.argv[1:]
    stopping.listen()
    if failure:
        rank, step = failure[0].split(":")
        if rank == os.environ.get("RANK", "0"):
            fail_at(int(step))
    from prx_scale.commands.train import train_in_job
    from prx_scale.study import load

    run = load(Path(study)).runs[0]
    return train_in_job(Path(study), run.id, Job(**json.loads(job), started=time.time()))


if __name__ == "__main__":
    sys.exit(main())
