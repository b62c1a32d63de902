"""What training a run takes, before there is a GPU: parameters, FLOPs, memory, time and layouts.

Importing it needs no torch; `plan` does.
"""

from prx_scale.planning.candidates import Choices, choices_of
from prx_scale.planning.encoders import encoders_gib
from prx_scale.planning.hardware import GPUS, Machine, machine
from prx_scale.planning.planner import Estimate, Plan, plan
from prx_scale.planning.report import to_json
from prx_scale.planning.workload import Layout, PlannedRun, planned, sd3_run

__all__ = [
    "GPUS",
    "Choices",
    "Estimate",
    "Layout",
    "Machine",
    "Plan",
    "PlannedRun",
    "choices_of",
    "encoders_gib",
    "machine",
    "plan",
    "planned",
    "sd3_run",
    "to_json",
]
