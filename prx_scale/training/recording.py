"""What a training run tells: rows of its record, TorchTitan's own loggers, and whoever watches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from parallel.titan import MetricsProcessor
from prx_scale.config import RunConfig
from prx_scale.models.build import model_shape
from prx_scale.models.sizes import training_flops
from prx_scale.runs import RunRecord, State, TrainRow, ValidationRow, Weights, now
from prx_scale.training.validation import LevelLosses


class Watcher(Protocol):
    """Someone who is shown how a run goes on."""

    def train_row(self, row: TrainRow) -> None:
        """A step was logged."""
        ...

    def validation_row(self, row: ValidationRow) -> None:
        """The weights were validated."""
        ...


class Recorder:
    """Writes a run's record; on processes other than the first it does nothing."""

    def __init__(self, run: RunConfig, record: RunRecord | None, watcher: Watcher | None) -> None:
        self.run, self.record, self.watcher = run, record, watcher
        self.flops_per_sample = training_flops(model_shape(run))
        self.last_good_step = 0
        info = record.read() if record else None
        self._earlier_seconds = info.wall_seconds if info else 0.0
        self._started = time.monotonic()

    def counted(self, step: int) -> dict[str, Any]:
        """Samples, tokens and FLOPs up to a step."""
        samples = step * self.run.training.batch
        return {
            "step": step,
            "samples": samples,
            "tokens": samples * self.run.tokens_per_sample,
            "flops": float(samples * self.flops_per_sample),
        }

    def resume_from(self, step: int) -> None:
        """Training goes on from a checkpoint: rows past it are dropped, and nothing before it is in doubt.

        Args:
            step: of the checkpoint, 0 where there is none.
        """
        self.last_good_step = step
        if self.record:
            self.record.drop_after(step)

    def train_row(self, row: TrainRow) -> None:
        """Record a logged step, whose loss TorchTitan has found finite."""
        self.last_good_step = row.step
        if self.record:
            self.record.append(row)
            if self.watcher:
                self.watcher.train_row(row)

    def validation(self, step: int, losses: dict[Weights, LevelLosses]) -> None:
        """Record the validation of a step, all kinds of weights in one write."""
        rows = [
            ValidationRow(
                **self.counted(step),
                weights=weights,
                split="heldout",
                loss=each.loss,
                levels=each.levels,
                loss_per_level=each.loss_per_level,
                n=self.run.validation.images,
            )
            for weights, each in losses.items()
        ]
        if self.record:
            self.record.append_all(rows)
            self.state(State.RUNNING, step)
            if self.watcher:
                self.watcher.validation_row(rows[-1])

    def state(self, state: State, step: int, **changes: Any) -> None:
        """Record where the run stands."""
        if self.record:
            seconds = self._earlier_seconds + time.monotonic() - self._started
            self.record.update(state=state, step=step, wall_seconds=round(seconds, 1), **changes)


class RecordingMetrics(MetricsProcessor):
    """TorchTitan's metrics, with TensorBoard and W&B where they are on, that also fill train.jsonl."""

    @dataclass(kw_only=True, slots=True)
    class Config(MetricsProcessor.Config):
        run: RunConfig

    config: Config  # type: ignore[assignment]
    recorder: Recorder

    def should_log(self, step: int) -> bool:
        """Also before each validation and checkpoint, since logging is where a loss that is not finite is found."""
        run = self.config.run
        due = (run.validation.every, run.checkpoint.every, run.logging.every)
        return step in (1, run.training.steps) or any(step % every == 0 for every in due)

    def log(
        self,
        step: int,
        global_avg_loss: float,
        global_max_loss: float,
        grad_norm: float,
        extra_metrics: dict[str, Any] | None = None,
    ) -> None:
        """Record the step, then let TorchTitan log it."""
        base_rate = (extra_metrics or {})["lr/base"]
        self.recorder.train_row(self._row(step, global_avg_loss, grad_norm, lr=base_rate))
        super().log(step, global_avg_loss, global_max_loss, grad_norm, extra_metrics)

    def _row(self, step: int, loss: float, grad_norm: float, lr: float) -> TrainRow:
        seconds = time.perf_counter() - self.time_last_log
        processes = self.parallel_dims.dp_replicate * self.parallel_dims.dp_shard
        tokens_per_second = self.ntokens_since_last_log * processes / seconds
        on_gpu = torch.accelerator.is_available()
        flops_per_second = self.num_flops_per_token * tokens_per_second / self.parallel_dims.world_size
        return TrainRow(
            **self.recorder.counted(step),
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            samples_per_second=tokens_per_second / self.config.run.tokens_per_sample,
            mfu=flops_per_second / self.gpu_peak_flops if on_gpu else None,
            memory_gib=self.device_memory_monitor.get_peak_stats().max_reserved_gib,
            time=now(),
        )
