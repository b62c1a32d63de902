"""Train one run in this process: the same call on a laptop, under torchrun and on a cluster."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist

from parallel.checkpoints import set_aside_damaged
from parallel.liveness import Death, watched
from parallel.titan import device_name, latest_step, process_group_environment
from prx_scale.config import RunConfig
from prx_scale.locks import only_one
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import parameters, training_flops
from prx_scale.runs import Parameters, RunInfo, RunRecord, State, now
from prx_scale.training.recording import Recorder, Watcher
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer, NonFiniteLoss

PEER_DIED = 1
"""Exit code of a process whose peer has died."""


def train(run: RunConfig, folder: Path, watcher: Watcher | None = None) -> State:
    """Train a run to its end, or from where it stopped.

    Args:
        run: the run.
        folder: its folder, `<study>/runs/<run-id>`.
        watcher: is shown the rows as they are recorded.

    Returns:
        done, interrupted (a signal asked to stop; the state is saved) or failed (the loss was not finite).

    Raises:
        InputError: the run does not fit the number of processes, or another process is training it.
    """
    record = RunRecord(folder)
    before = record.read()
    if before is not None and before.state in (State.DONE, State.FAILED):
        return before.state
    with process_group_environment():
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        config = trainer_config(run, folder, world_size)
        folder.mkdir(parents=True, exist_ok=True)
        _log_to_file(folder / f"rank{rank}.log")
        if rank != 0:
            return _train(config, Recorder(run, None, None), folder)
        with only_one(folder):
            # The others wait for this process before they look for a checkpoint.
            for damaged in set_aside_damaged(folder / "checkpoint"):
                logging.error(_DAMAGED.format(damaged.folder, damaged.reason, damaged.kept_as.name))
            record.write(_started(run, folder, world_size, before))
            return _train(config, Recorder(run, record, watcher), folder)


_DAMAGED = "the checkpoint {} is damaged: {}. It is kept as {}, and the one before it is used."


def _train(config: DiffusionTrainer.Config, recorder: Recorder, folder: Path) -> State:
    trainer = DiffusionTrainer(config, recorder)
    try:
        with watched(partial(_end_with_peer, trainer, folder)):
            return _train_to_an_end(trainer, recorder)
    finally:
        trainer.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def _train_to_an_end(trainer: DiffusionTrainer, recorder: Recorder) -> State:
    try:
        recorder.resume_from(latest_step(trainer.checkpointer))
        trainer.stop_on_signals()
        trainer.train()
    except NonFiniteLoss as error:
        recorder.state(State.FAILED, trainer.step, reason=str(error), last_good_step=error.last_good_step)
        return State.FAILED
    state = State.INTERRUPTED if trainer.stopped else State.DONE
    reason = "asked to stop by a signal; the same command goes on from here" if trainer.stopped else None
    recorder.state(state, trainer.step, reason=reason)
    return state


def _end_with_peer(trainer: DiffusionTrainer, folder: Path, death: Death, write: bool) -> None:
    """End this process, whatever the collective under way is waiting for; one of those left writes down why."""
    reason = f"{death}; the same command goes on from the last checkpoint"
    logging.error(f"at step {trainer.step}: {reason}")
    if write:
        RunRecord(folder).update(state=State.INTERRUPTED, step=trainer.step, reason=reason)
    logging.shutdown()
    os._exit(PEER_DIED)


def _started(run: RunConfig, folder: Path, world_size: int, before: RunInfo | None) -> RunInfo:
    shape = model_shape(run)
    counts = parameters(shape)
    commit, dirty = _commit()
    started = RunInfo(
        run=run.id,
        study=run.study,
        variant=run.variant,
        state=State.RUNNING,
        config=run.to_json(),
        depth=run.model.depth,
        seed=run.training.seed,
        parameters=Parameters(
            backbone=counts.backbone,
            embedding=counts.embedding,
            by_part={name: getattr(counts, name) for name in counts.__dataclass_fields__},
        ),
        flops_per_sample=training_flops(shape),
        tokens_per_sample=run.tokens_per_sample,
        versions=_versions(),
        commit=commit,
        dirty=dirty,
        device=f"{device_name()}, {torch.get_num_threads()} threads" if _on_cpu() else device_name(),
        world_size=world_size,
        steps=run.training.steps,
        created=now(),
        updated=now(),
    )
    if before is None:
        return started
    return replace(started, created=before.created, wall_seconds=before.wall_seconds, step=before.step)


def _on_cpu() -> bool:
    return not torch.accelerator.is_available()


def _versions() -> dict[str, str]:
    packages = ("prx-scale", "torch", "torchtitan", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _commit() -> tuple[str | None, bool | None]:
    """The commit that this package runs from and whether files differ from it; None for an installed package."""
    where = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(where), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", str(Path(__file__).resolve())):
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _log_to_file(path: Path) -> None:
    """TorchTitan logs through the root logger: its lines go to a file of the run, warnings to the terminal too."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.ERROR)
    root = logging.getLogger()
    root.handlers[:] = [handler, terminal]
    root.setLevel(logging.INFO)
