"""A training step of a few blocks, traced on fake tensors: the code that trains, spread as it will be. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from parallel.costs import Operations, Passes
from parallel.estimators.fakes import fake_tensors, fake_world
from parallel.estimators.memory import local_bytes
from parallel.estimators.tracing import trace_passes, trace_update
from parallel.parallelize import parallelize
from parallel.shards import reshard
from parallel.titan import CompileConfig, ParallelDims, clip_grad_norm_
from prx_scale.diffusion.paths import interpolate, velocity
from prx_scale.layout import data_parallel
from prx_scale.models.inputs import inputs_of
from prx_scale.models.mmdit import MMDiT, backbone_config
from prx_scale.models.sizes import SIZES
from prx_scale.planning.traces import BLOCKS, StateBytes, Trace
from prx_scale.planning.workload import PlannedRun
from prx_scale.training.ema import AveragedWeights
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer
from prx_scale.training.validation import items_at_once


def trace(
    run: PlannedRun, gpus: int, images: Sequence[int], *, accumulates: bool, blocks: int = BLOCKS
) -> tuple[Trace, ...]:
    """Trace steps of a run's model cut to a few blocks of its full width.

    Args:
        run: the run; its batch must be dealt out evenly over the GPUs.
        gpus: processes.
        images: micro-batches to trace, one after the other.
        accumulates: memory is that of a micro-batch after the first.
        blocks: at least 4: a first, two in the middle, and the last.

    Raises:
        InputError: the layout or the batch does not fit the GPUs.
    """
    with fake_world(gpus):
        step = _Step(run, gpus, blocks)
        with fake_tensors():
            step.materialise()
            passes = [step.passes(each, accumulates=accumulates) for each in images]
            update_peak, update = step.update()
            validations = [step.validation(gpus, each) for each in images]
            states = step.state_bytes()
            return tuple(
                Trace(
                    blocks=blocks,
                    images=each,
                    accumulates=accumulates,
                    states=states,
                    passes=memory,
                    update_peak=update_peak,
                    validation=validation,
                    raw_inputs=step.raw_input_bytes(each),
                    operations=operations,
                    update=update,
                )
                for each, (memory, operations), validation in zip(images, passes, validations, strict=True)
            )


class _Step:
    """A model of a few blocks with its optimiser and averaged weights, and what a training step does with them."""

    def __init__(self, run: PlannedRun, gpus: int, blocks: int) -> None:
        cut = replace(run, model=replace(run.model, depth=blocks, width=run.model.hidden))
        self.run = cut
        self.config = trainer_config(cut, Path("unused"), gpus)
        dims = ParallelDims.from_config(self.config.parallelism, gpus)
        dims.build_mesh()
        self.model = _spread(cut, self.config, dims)

    def materialise(self) -> None:
        """Give the parameters sizes, and make what is kept beside them."""
        self.model.to_empty(device="cpu")
        self.optimizers = self.config.optimizer.build(model_parts=[self.model])
        self.ema = AveragedWeights(self.model, self.run.training.ema_decay) if self.run.averages else None

    def state_bytes(self) -> StateBytes:
        """Bytes of parameters and optimiser state, over all blocks and of one in the middle."""
        names = dict(self.model.named_parameters())
        states = {parameter: state for optimizer in self.optimizers for parameter, state in optimizer.state.items()}

        def of(chosen: list[nn.Parameter]) -> tuple[int, int]:
            kept = (value for each in chosen for value in states[each].values() if isinstance(value, Tensor))
            return sum(map(local_bytes, chosen)), sum(map(local_bytes, kept))

        parameters, optimizer = of(list(names.values()))
        block, block_optimizer = of([each for name, each in names.items() if name.startswith("layers.1.")])
        return StateBytes(
            parameters=parameters, block_parameters=block, optimizer=optimizer, block_optimizer=block_optimizer
        )

    def passes(self, images: int, *, accumulates: bool) -> tuple[Passes, Operations]:
        """Memory and operators of a forward and backward pass, as one process runs them; leaves gradients."""
        shares_tensors = self.run.parallel.tp > 1 or self.run.parallel.cp > 1
        if accumulates or shares_tensors:  # DTensor decides on layouts the first time, with operators of its own
            self._loss(self._raw(images)).backward()
        if not accumulates:
            self.optimizers.zero_grad()
        raw = self._raw(images)

        def run(start: Callable[[str], None]) -> None:
            start("forward")
            loss = self._loss(raw)
            start("backward")
            loss.backward()

        return trace_passes(self.model, raw, run)

    def update(self) -> tuple[int, Operations]:
        """Bytes and operators that clipping, the optimiser and averaging need, on the gradients of the last passes."""

        def run() -> None:
            self._optimize()
            if self.ema is not None:
                self.ema.update(1)

        run()  # the first time makes states, and DTensor decides on layouts
        traced = trace_update(self.model, self._kept(), run)
        self.optimizers.zero_grad()
        return traced

    def _kept(self) -> tuple[Tensor, ...]:
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        states = [value for each in self.optimizers for state in each.state.values() for value in state.values()]
        averages = self.ema.average.values() if self.ema is not None else ()
        return tuple(each for each in (*gradients, *states, *averages) if isinstance(each, Tensor))

    def validation(self, gpus: int, micro_batch: int) -> Passes:
        """Memory of a forward pass without gradients, of as many images as the validator takes at once."""
        asked = self.run.validation
        share = -(-asked.images * asked.levels // data_parallel(self.run, gpus))
        raw = self._raw(items_at_once(share, micro_batch))
        with torch.no_grad():
            passes, _ = trace_passes(self.model, raw, lambda start: void(self._loss(raw)))
        reshard(self.model)
        return passes

    def raw_input_bytes(self, images: int) -> int:
        """Bytes of a micro-batch as it comes."""
        return sum(map(local_bytes, self._raw(images)))

    def _raw(self, images: int) -> tuple[Tensor, ...]:
        """(x0, noise, t, context, pooled), and behind them the mask and the sizes where the model takes them."""
        inputs, shape = inputs_of(self.run.data), self.run.shape
        rows, columns = (side * self.run.model.patch for side in self.run.grid)
        x0 = torch.empty(images, inputs.channels, rows, columns)
        context = torch.empty(images, shape.text_tokens, inputs.context_dim)
        pooled = torch.empty(images, inputs.pooled_dim)
        mask = (torch.ones(images, shape.text_tokens, dtype=torch.bool),) if inputs.masked else ()
        size = (torch.empty(images, SIZES),) if shape.size_conditioning else ()
        return (x0, torch.empty_like(x0), torch.empty(images), context, pooled, *mask, *size)

    def _loss(self, raw: tuple[Tensor, ...]) -> Tensor:
        x0, noise, t, context, pooled, *more = raw
        names = ("mask",) * inputs_of(self.run.data).masked + ("size",) * self.run.shape.size_conditioning
        told = {"t": t, "context": context, "pooled": pooled, **dict(zip(names, more, strict=True))}
        predicted = self.model(interpolate(x0, noise, t), **told)
        return nn.functional.mse_loss(predicted, velocity(x0, noise), reduction="sum") / x0.numel()

    def _optimize(self) -> None:
        clip_grad_norm_(list(self.model.parameters()), self.run.training.max_norm, foreach=True)
        self.optimizers.step()


def void(value: object) -> None:
    """Forget a value."""


def _spread(run: PlannedRun, config: DiffusionTrainer.Config, dims: ParallelDims) -> nn.Module:
    with torch.device("meta"):
        model = _backbone(run).build()
    return parallelize(
        model,
        parallel_dims=dims,
        training=config.training,
        parallelism=config.parallelism,
        compile_config=CompileConfig(),  # compiling changes no sizes that could be known without a GPU
        ac_config=config.activation_checkpoint,
        dump_folder="",
    )


def _backbone(run: PlannedRun) -> MMDiT.Config:
    config = backbone_config(run)
    if run.text_tokens:
        config.text_split = (run.text_tokens,)
    return config
