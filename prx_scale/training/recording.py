"""What a training run tells: rows of its record, TorchTitan's own loggers, and whoever watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from parallel.titan import MetricsProcessor
from prx_scale.attempts import Attempts, Ending, Job
from prx_scale.config import RunConfig
from prx_scale.owner import Fence
from prx_scale.runs.clock import now
from prx_scale.runs.info import RunInfo, State
from prx_scale.runs.record import RunRecord
from prx_scale.runs.rows import TrainRow, ValidationRow, Weights
from prx_scale.training.validation import LevelLosses
from prx_scale.turns import Turns


class Watcher(Protocol):
    """Someone who is shown how a run goes on."""

    def train_row(self, row: TrainRow) -> None:
        """A step was logged."""
        ...

    def validation_row(self, row: ValidationRow) -> None:
        """The weights were validated."""
        ...


class Recorder:
    """Writes a run's record; on processes other than the first it does nothing while training goes on.

    In a job it looks before every write whether the run is still this job's.
    """

    def __init__(
        self, run: RunConfig, record: RunRecord | None, watcher: Watcher | None, fence: Fence | None = None
    ) -> None:
        self.run, self.record, self.watcher, self.fence = run, record, watcher, fence or Fence(Path(), None)
        self.turns = Turns(run)
        self.last_good_step = 0
        self._earlier_seconds = 0.0
        self._started = time.monotonic()
        self._writing = threading.RLock()
        self._open = False

    def counted(self, step: int) -> dict[str, Any]:
        """Samples, tokens and FLOPs up to a step."""
        totals = self.turns.totals(step)
        return {"step": step, "samples": totals.samples, "tokens": totals.tokens, "flops": float(totals.flops)}

    def start(self, info: RunInfo, job: Job | None, from_step: int) -> None:
        """Record that training starts.

        Args:
            info: what run.json will say.
            job: that it starts in; None outside a cluster.
            from_step: of the checkpoint that it goes on from.
        """
        with self._turn() as record:
            if record:
                Attempts(record.folder).start(job, info.world_size, from_step)
                self._open, self._earlier_seconds = True, info.wall_seconds
                record.write(info)

    def resume_from(self, step: int) -> None:
        """Training goes on from a checkpoint: rows past it are dropped, and nothing before it is in doubt.

        Args:
            step: of the checkpoint, 0 where there is none.
        """
        self.last_good_step = step
        with self._turn() as record:
            if record:
                record.drop_after(step)

    def train_row(self, row: TrainRow) -> None:
        """Record a logged step, whose loss TorchTitan has found finite."""
        self.last_good_step = row.step
        with self._turn() as record:
            if record:
                record.append(row)
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
        with self._turn() as record:
            if record:
                record.append_all(rows)
                self._update(record, State.RUNNING, step)
                if self.watcher:
                    self.watcher.validation_row(rows[-1])

    def check(self) -> None:
        """What is not this class's to write is about to be written.

        Raises:
            Superseded: the run is another's now.
        """
        with self._turn():
            pass

    def give_up(self, info: RunInfo) -> None:
        """Record that the run is not started any more.

        Args:
            info: what run.json will say.
        """
        with self._turn() as record:
            if record:
                record.write(info)

    def ended(self, state: State, step: int, cause: Ending, reason: str | None = None, **changes: Any) -> None:
        """Record how training ended, if it was recorded that it started.

        Args:
            state: of the run.
            step: that it reached.
            cause: why it ended.
            reason: the same in words.
            **changes: to other fields of `RunInfo`.
        """
        with self._turn() as record:
            if record and self._open:
                self._update(record, state, step, reason=reason, **changes)
                Attempts(record.folder).end(state, step, cause, reason)

    def last_word(self, folder: Path, state: State, step: int, cause: Ending, reason: str) -> None:
        """Record an end, from any process and thread; nothing of this process is recorded after it.

        Args:
            folder: of the run.
            state: of the run.
            step: that this process reached.
            cause: why it ended.
            reason: the same in words.
        """
        self._writing.acquire()  # for good
        self.fence.check()
        record = RunRecord(folder)
        if self.record:
            self._update(record, state, step, reason=reason)
        else:
            record.update(state=state, step=step, reason=reason)
        Attempts(folder).end(state, step, cause, reason)

    @contextmanager
    def _turn(self) -> Generator[RunRecord | None]:
        """Alone among this process's threads, and in possession of the run; None on processes that write nothing."""
        with self._writing:
            if self.record:
                self.fence.check()
            yield self.record

    def _update(self, record: RunRecord, state: State, step: int, **changes: Any) -> None:
        seconds = self._earlier_seconds + time.monotonic() - self._started
        record.update(state=state, step=step, wall_seconds=round(seconds, 1), **changes)


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
        before = self.recorder.turns.totals(self.recorder.last_good_step).flops
        flops = self.recorder.turns.totals(step).flops - before
        flops_per_second = flops / seconds / self.parallel_dims.world_size
        return TrainRow(
            **self.recorder.counted(step),
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            samples_per_second=tokens_per_second / self.config.run.tokens_per_sample,
            mfu=flops_per_second / self.gpu_peak_flops if on_gpu else None,
            memory_gib=self.device_memory_monitor.get_peak_stats().max_reserved_gib,
            time=now(),
            waiting=sum(self.data_loading_times) / seconds if self.config.run.on_the_fly else None,
        )
