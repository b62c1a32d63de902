"""The TorchTitan Trainer of a diffusion backbone: rectified flow, averaged weights, validation per noise level."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from parallel.titan import ParallelDims, Trainer, add_checkpoint_state, is_non_finite_loss, latest_step
from prx_scale.config import RunConfig
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.layout import micro_batch
from prx_scale.models.convert.folder import load_into
from prx_scale.models.mmdit import MMDiT
from prx_scale.stages import as_run, stage_settings
from prx_scale.stopping import StopRequest
from prx_scale.training.batches import SampleLoader
from prx_scale.training.ema import AveragedWeights
from prx_scale.training.recording import Recorder, RecordingMetrics
from prx_scale.training.validation import Validator

logger = logging.getLogger(__name__)


class NonFiniteLoss(Exception):
    """The training loss became infinite or not a number."""

    def __init__(self, step: int, last_good_step: int) -> None:
        super().__init__(f"the training loss was not finite at step {step}; the last good step is {last_good_step}")
        self.last_good_step = last_good_step


class DiffusionTrainer(Trainer):
    """Trains one run.

    Everything random comes with the batch, named by sample index, so the loss curve does not depend on how the batch
    is spread over processes, and a resumed run repeats the uninterrupted one.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(Trainer.Config):
        run: RunConfig

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        request: StopRequest | None = None,
        on_meeting: Callable[[torch.device], None] = lambda device: None,
    ) -> None:
        """Build everything, as far as training itself.

        Args:
            config: of the trainer.
            recorder: of the run.
            request: is looked at after every step; None where no signal is to end training.
            on_meeting: is called once the processes can talk to each other, before the model is built.
        """
        self.request, self.on_meeting = request or StopRequest(), on_meeting
        super().__init__(config)
        self.run = config.run
        self.recorder = recorder
        assert isinstance(self.metrics_processor, RecordingMetrics)
        self.metrics_processor.recorder = recorder
        training = self.run.training
        if training.start_from and not latest_step(self.checkpointer):
            load_into(cast("MMDiT", self.model_parts[0]), Path(training.start_from), training.start_hash)
        self.ema = AveragedWeights(self.model_parts[0], training.ema_decay)
        add_checkpoint_state(self.checkpointer, "ema", self.ema)
        dims = self.parallel_dims
        mesh = dims.get_mesh("batch") if dims.dp_enabled else None
        self.groups = mesh.size() if mesh else 1
        self.level_validator = Validator(
            self.run,
            device=self.device,
            rank=mesh.get_local_rank() if mesh else 0,
            world=self.groups,
            group=mesh.get_group() if mesh else None,
            micro_batch=config.training.local_batch_size,
            dataset=self.loader.heldout(self.run),
        )
        self.stopped_by = 0
        """The signal that ended training; 0 where none did."""
        self._saved: int | None = None

    @property
    def loader(self) -> SampleLoader:
        """What gives the batches."""
        return cast("SampleLoader", self.dataloader)

    def init_distributed(self) -> ParallelDims:
        """TorchTitan's, then whatever the processes have to tell each other before they start."""
        dims = super().init_distributed()
        self.on_meeting(self.device)
        return dims

    def batch_generator(self, data_iterable: Iterable[Any]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Batches, counted in image tokens."""
        batches = iter(data_iterable)
        while True:
            start = time.perf_counter()
            inputs, x0 = next(batches)
            self.metrics_processor.ntokens_since_last_log += len(x0) * self.config.training.seq_len
            self.metrics_processor.data_loading_times.append(time.perf_counter() - start)
            yield inputs, x0

    def post_dataloading_process(
        self, input_dict: dict[str, Tensor], labels: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """From data, noise and time to the network's input z_t and its target eps - x0."""
        x0, noise, t = labels, input_dict["noise"], input_dict["t"]
        self.ntokens_seen += len(x0) * self.config.training.seq_len
        conditions = {name: tensor for name, tensor in input_dict.items() if name != "noise"}
        return interpolate(x0, noise, t), velocity(x0, noise), conditions

    def forward_backward_step(self, **step: Any) -> Tensor:
        """TorchTitan's; processes that share an image all have its whole loss, of which each reports its part."""
        return super().forward_backward_step(**step) / self.parallel_dims.cp

    def train_step(self, data_iterator: Iterator[tuple[dict[str, Tensor], Tensor]]) -> None:
        """TorchTitan's step, then the average of the weights and, where due, validation.

        Validation comes before TorchTitan's checkpoint of the same step: whatever a checkpoint holds is recorded.

        Raises:
            NonFiniteLoss: the loss over all processes is not finite.
        """
        self.gradient_accumulation_steps = self._accumulated(self.step - 1)
        try:
            super().train_step(data_iterator)
        except RuntimeError as error:
            if is_non_finite_loss(error):
                raise NonFiniteLoss(self.step, self.recorder.last_good_step) from error
            raise
        model = self.model_parts[0]
        self.ema.update(self.step)
        if self.step % self.run.validation.every == 0 or self.step == self.run.training.steps:
            raw = self.level_validator.losses(model)
            with self.ema.in_place():
                averaged = self.level_validator.losses(model)
            self.recorder.validation(self.step, {"raw": raw, "ema": averaged})
            self.metrics_processor.log_validation(averaged.loss, self.step)
        if self._saves_by_itself(self.step):
            self.recorder.check()

    def close(self) -> None:
        """TorchTitan's, and the processes that encode end."""
        if self.loader.stream is not None and (waiting := self.loader.stream.waiting).items:
            logger.info(f"{waiting}; the first came after {waiting.start:.1f} s")
        self.loader.close()
        super().close()

    def _accumulated(self, step: int) -> int:
        """Micro-batches that a process goes through in a step, which belongs to a stage with a batch of its own."""
        if not self.run.stages:
            return self.gradient_accumulation_steps
        stage = as_run(self.run, stage_settings(self.run, step))
        return stage.training.batch // (micro_batch(stage, self.parallel_dims.world_size) * self.groups)

    def _saves_by_itself(self, step: int) -> bool:
        """Whether TorchTitan saves a step once it is done."""
        return step % self.run.checkpoint.every == 0 or step == self.run.training.steps

    def should_continue_training(self) -> bool:
        """Not after the last step, nor after a signal that asked to stop; then the state is saved first.

        What is saved already, as that of the checkpoint that training went on from, is not written again: a process
        that is killed while it overwrites its last checkpoint has none.
        """
        if self._saved is None or self._saves_by_itself(self.step):
            self._saved = self.step
        if not super().should_continue_training():
            return False
        self.stopped_by = agreed_signal(self.request, self.device)
        if self.stopped_by and self._saved != self.step:
            self.recorder.check()
            self.checkpointer.save(self.step, last_step=True)
        return not self.stopped_by


def agreed_signal(request: StopRequest, device: torch.device) -> int:
    """The signal that any process of the default group was asked to stop by.

    Args:
        request: of this process.
        device: that its collectives work on.

    Returns:
        The highest number; 0 where there was none.
    """
    if dist.get_world_size() == 1:
        return request.number
    number = torch.tensor(float(request.number), device=device)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return int(number.item())
