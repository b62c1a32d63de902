"""Run under torchrun: a run that TorchTitan starts from diffusers' transformer and saves as one, with its own code.

hf_checkpoints.py STUDY TRANSFORMER OUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch.distributed as dist

from parallel.titan import process_group_environment
from prx_scale import study
from prx_scale.training.recording import Recorder
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer


def main(study_folder: Path, transformer: Path, out: Path) -> None:
    (run,) = study.load(study_folder).runs
    with process_group_environment():
        config = trainer_config(run, out, int(os.environ["WORLD_SIZE"]))
        config.checkpoint.initial_load_path = str(transformer.absolute())
        config.checkpoint.initial_load_in_hf = config.checkpoint.initial_load_model_only = True
        config.checkpoint.last_save_in_hf = config.checkpoint.last_save_model_only = True
        trainer = DiffusionTrainer(config, Recorder(run, None, None))
        trainer.train()
        trainer.close()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
