"""From a run's configuration to TorchTitan's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parallel.parallelize import parallelize
from parallel.titan import (
    BaseTokenizer,
    CheckpointManager,
    CommConfig,
    DebugConfig,
    LRSchedulersContainer,
    ModelSpec,
    MSELoss,
    OptimizersContainer,
    ParallelismConfig,
    TrainingConfig,
    default_adamw,
)
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.models.convert.adapter import DiffusersAdapter
from prx_scale.models.mmdit import backbone_config
from prx_scale.training.batches import SampleLoader
from prx_scale.training.recording import RecordingMetrics
from prx_scale.training.trainer import DiffusionTrainer

COLLECTIVE_TIMEOUT_SECONDS = 600
"""After this long without an answer from a peer a process gives up."""


class NoTokenizer(BaseTokenizer):
    """TorchTitan always builds a tokenizer; here text arrives encoded."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseTokenizer.Config):
        pass

    def __init__(self, config: Config, *, tokenizer_path: str | None = None) -> None:
        super().__init__()

    def encode(self, *args: object, **kwargs: object) -> list[int]:
        """No tokens."""
        return []

    def decode(self, *args: object, **kwargs: object) -> str:
        """No text."""
        return ""

    def get_vocab_size(self) -> int:
        """No vocabulary."""
        return 0


def trainer_config(run: RunConfig, folder: Path, world_size: int) -> DiffusionTrainer.Config:
    """The trainer's configuration.

    Args:
        run: the run.
        folder: its folder, for checkpoints and TensorBoard files.
        world_size: number of processes.

    Raises:
        InputError: the batch cannot be dealt out over the processes, or the processes not over the mesh.
    """
    training = run.training
    return DiffusionTrainer.Config(
        run=run,
        model_spec=model_spec(run),
        dump_folder=str(folder),
        tokenizer=NoTokenizer.Config(),
        dataloader=SampleLoader.Config(run=run),
        optimizer=_optimizer(run),
        lr_scheduler=LRSchedulersContainer.Config(
            warmup_steps=training.warmup, total_steps=training.steps, decay_ratio=0.0
        ),
        training=TrainingConfig(
            local_batch_size=micro_batch(run, world_size),
            global_batch_size=training.batch,
            seq_len=run.tokens_per_sample,
            max_norm=training.max_norm,
            steps=training.steps,
            disable_cuda_graphs=True,
            mixed_precision_param=training.precision,
        ),
        parallelism=ParallelismConfig(
            data_parallel_replicate_degree=run.parallel.dp_replicate,
            data_parallel_shard_degree=run.parallel.dp_shard,
            enable_sequence_parallel=False,
            # TorchTitan's newer backends need a torch after 2.13 for parameters that are plain tensors.
            spmd_backend="partial_dtensor",
        ),
        checkpoint=CheckpointManager.Config(
            enable=True,
            interval=run.checkpoint.every,
            keep_latest_k=run.checkpoint.keep,
            last_save_model_only=False,
            initial_load_model_only=False,
        ),
        activation_checkpoint=None,
        metrics=RecordingMetrics.Config(
            run=run,
            log_freq=run.logging.every,
            enable_tensorboard=run.logging.tensorboard,
            enable_wandb=run.logging.wandb,
            disable_color_printing=True,
        ),
        comm=CommConfig(trace_buf_size=0, train_timeout_seconds=COLLECTIVE_TIMEOUT_SECONDS),
        debug=DebugConfig(seed=training.seed, print_config=False),
        loss=MSELoss.Config(),
    )


def model_spec(run: RunConfig) -> ModelSpec:
    """TorchTitan's bundle of a run's model.

    Args:
        run: the run.
    """
    return ModelSpec(
        name="mmdit",
        flavor=f"depth-{run.model.depth}",
        model=backbone_config(run),
        parallelize_fn=parallelize,
        pipelining_fn=None,
        post_optimizer_build_fn=None,
        state_dict_adapter=DiffusersAdapter,
    )


def micro_batch(run: RunConfig, world_size: int) -> int:
    """Images that a process holds at once.

    Args:
        run: the run.
        world_size: number of processes.

    Raises:
        InputError: the mesh or the batch does not fit the number of processes.
    """
    replicate, shard = run.parallel.dp_replicate, run.parallel.dp_shard
    if world_size % replicate or (shard != -1 and replicate * shard != world_size):
        raise InputError(
            f"[parallel] dp_replicate {replicate} x dp_shard {shard} does not give the {world_size} processes started; "
            "dp_shard = -1 takes what is left"
        )
    size = run.parallel.micro_batch or run.training.batch // world_size
    if size == 0 or run.training.batch % (size * world_size):
        raise InputError(
            f"[training] batch: {run.training.batch} images cannot be dealt out over {world_size} processes"
            + (f" in micro-batches of {size}" if run.parallel.micro_batch else "")
        )
    return size


def _optimizer(run: RunConfig) -> OptimizersContainer.Config:
    training = run.training
    return default_adamw(
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
    )
