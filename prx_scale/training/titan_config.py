"""From a run's configuration to TorchTitan's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parallel.parallelize import parallelize
from parallel.titan import (
    BaseTokenizer,
    CheckpointManager,
    CommConfig,
    CompileConfig,
    DebugConfig,
    FullAC,
    ModelSpec,
    MSELoss,
    ParallelismConfig,
    SelectiveCheckpointing,
    TrainingConfig,
    device_name,
    float8_linears,
)
from prx_scale.config import RunConfig
from prx_scale.errors import InputError
from prx_scale.layout import micro_batch, shares_sequence
from prx_scale.models.convert.adapter import DiffusersAdapter
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.stages import as_run, resolve
from prx_scale.training.batches import SampleLoader
from prx_scale.training.optimizers import optimizers_config, schedule_config
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
    for stage in resolve(run):
        micro_batch(as_run(run, stage), world_size)
    training = run.training
    return DiffusionTrainer.Config(
        run=run,
        model_spec=model_spec(run),
        dump_folder=str(folder),
        tokenizer=NoTokenizer.Config(),
        dataloader=SampleLoader.Config(run=run, folder=folder),
        optimizer=optimizers_config(run),
        lr_scheduler=schedule_config(run),
        training=TrainingConfig(
            local_batch_size=micro_batch(run, world_size),
            global_batch_size=training.batch,
            seq_len=run.tokens_per_sample,
            max_norm=training.max_norm,
            steps=training.steps,
            disable_cuda_graphs=True,
            mixed_precision_param="float32" if training.precision == "float32" else "bfloat16",
        ),
        parallelism=ParallelismConfig(
            data_parallel_replicate_degree=run.parallel.dp_replicate,
            data_parallel_shard_degree=run.parallel.dp_shard,
            tensor_parallel_degree=run.parallel.tp,
            context_parallel_degree=run.parallel.cp,
            enable_sequence_parallel=shares_sequence(run),
            fsdp_reshard_after_forward="default" if run.parallel.reshard == "blocks" else run.parallel.reshard,
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
        activation_checkpoint=_checkpointing(run),
        compile=CompileConfig(enable=run.parallel.compile, components=["model"]),
        metrics=RecordingMetrics.Config(
            run=run,
            log_freq=run.logging.every,
            enable_tensorboard=run.logging.tensorboard,
            enable_wandb=run.logging.wandb,
            disable_color_printing=True,
        ),
        comm=CommConfig(
            trace_buf_size=0,
            # The first process may have to wait for the run's lock before it meets the others.
            init_timeout_seconds=COLLECTIVE_TIMEOUT_SECONDS,
            train_timeout_seconds=COLLECTIVE_TIMEOUT_SECONDS,
        ),
        debug=DebugConfig(seed=training.seed, print_config=False),
        loss=MSELoss.Config(),
    )


def model_spec(run: RunConfig) -> ModelSpec:
    """TorchTitan's bundle of a run's model.

    Args:
        run: the run.
    """
    model = backbone_config(run)
    if run.training.precision == "float8":
        _use_float8(model, compiled=run.parallel.compile)
    return ModelSpec(
        name="mmdit",
        flavor=f"depth-{run.model.depth}",
        model=model,
        parallelize_fn=parallelize,
        pipelining_fn=None,
        post_optimizer_build_fn=None,
        state_dict_adapter=DiffusersAdapter,
    )


NOT_IN_FLOAT8 = ["patch_embed", "time_embed", "pooled_embed", "size_embed", "context_embed", "final", ".ada"]
"""Layers that see one vector an image, or few values a token: too small to gain, and where precision counts most."""


def _use_float8(model: MMDiT.Config, *, compiled: bool) -> None:
    try:
        float8_linears(model, skip=NOT_IN_FLOAT8, compiled=compiled)
    except ImportError as error:
        raise InputError("[training] precision: float8 needs torchao: pip install 'prx-scale[float8]'") from error
    except ValueError as error:
        raise InputError(
            f"[training] precision: {device_name()} has no float8; NVIDIA GPUs have it from compute capability 8.9 on, "
            'AMD\'s from gfx942 on, and "bfloat16" runs everywhere'
        ) from error


def _checkpointing(run: RunConfig) -> FullAC.Config | SelectiveCheckpointing.Config | None:
    match run.parallel.checkpointing:
        case "full":
            return FullAC.Config()
        case "selective":
            return SelectiveCheckpointing.Config()
    return None
