"""Train the single runs of several study folders, one after another, in the same process: starting up costs most.

Each argument is a folder and the port at which the processes of that training meet, as in `study:29500`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prx_scale import study
from prx_scale.training.run import train


def main() -> None:
    for argument in sys.argv[1:]:
        folder, os.environ["MASTER_PORT"] = argument.rsplit(":", 1)
        loaded = study.load(Path(folder))
        run = loaded.runs[0]
        state = train(run, loaded.folder / "runs" / run.id)
        assert state.value == "done", f"{folder} is {state}"


if __name__ == "__main__":
    main()
