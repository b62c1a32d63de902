"""Plan one of the small runs, in a process without other tensors."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.plan.cases import CASES
from prx_scale.planning import machine, planned
from prx_scale.planning.planner import exact_estimate
from prx_scale.planning.workload import layout_of


def main() -> None:
    """Plan the case whose name and folder are on the command line."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    case = next(each for each in CASES if each.name == name)
    run = planned(case.run)
    estimate = exact_estimate(run, layout_of(run, case.processes), machine("h100", precision=run.training.precision))
    result = {**asdict(estimate.memory), "total": estimate.memory.total}
    (folder / "estimated.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
