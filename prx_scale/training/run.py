"""Train one run in this process: the same call on a laptop, under torchrun and on a cluster."""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from parallel.checkpoints import finished_steps, set_aside_damaged
from parallel.liveness import DIED, Death, watched
from parallel.titan import latest_step, process_group_environment
from prx_scale.attempts import Attempts, Ending, Job
from prx_scale.choices import check_choices
from prx_scale.config import RunConfig
from prx_scale.evaluation.due import checkpoint_steps
from prx_scale.givingup import verdict
from prx_scale.imagedata import check_unchanged
from prx_scale.locks import NoLongerWanted, is_held, only_one
from prx_scale.owner import Fence, take, take_from_jobs
from prx_scale.runs.info import State
from prx_scale.runs.record import RunRecord
from prx_scale.signalcauses import signal_cause, signal_reason
from prx_scale.startweights import check_start
from prx_scale.stopping import StopRequest, listening
from prx_scale.stores import check_there
from prx_scale.training.failures import Kind, kind_of, words
from prx_scale.training.meeting import AlreadyEnded, StopAsked, meet
from prx_scale.training.recording import Recorder, Watcher
from prx_scale.training.started import started
from prx_scale.training.titan_config import trainer_config
from prx_scale.training.trainer import DiffusionTrainer, NonFiniteLoss

logger = logging.getLogger(__name__)

LOCK_PATIENCE_SECONDS = 300.0
"""How long a job waits for the lock of a run: that of a dead machine stays on a network file system for a while."""


def train(run: RunConfig, folder: Path, watcher: Watcher | None = None, job: Job | None = None) -> State:
    """Train a run to its end, or from where it stopped.

    Args:
        run: the run.
        folder: its folder, `<study>/runs/<run-id>`.
        watcher: is shown the rows as they are recorded.
        job: the cluster job that this process works for; None outside a cluster.

    Returns:
        done, interrupted (a signal asked to stop; the state is saved) or failed (the loss was not finite, or a job's
        run is given up).

    Raises:
        InputError: the run does not fit the number of processes or the weights that it starts from, or another process
            is training it.
        Superseded: another start has taken the run over.
    """
    with listening() as request, process_group_environment(), ExitStack() as held:
        world_size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        if world_size == 1 and (before := RunRecord(folder).read()) and _has_ended(before.state):
            return before.state
        if run.training.start_from and not checkpoint_steps(folder):
            check_start(run, str(RunRecord(folder).info_path))
        config = trainer_config(run, folder, world_size)
        folder.mkdir(parents=True, exist_ok=True)
        _log_to_file(folder / f"rank{rank}.log")
        recorder = Recorder(run, RunRecord(folder) if rank == 0 else None, watcher, Fence(folder, job))
        process = _Process(folder, recorder, request, job, rank=rank, world_size=world_size)
        refusal = process.prepare(held) if rank == 0 else None
        if refusal and world_size == 1:
            return process.ended_before(refusal)
        return process.train(config, refusal)


def _has_ended(state: State) -> bool:
    return state in (State.DONE, State.FAILED)


class _Process:
    """One process of a start of a run."""

    def __init__(
        self, folder: Path, recorder: Recorder, request: StopRequest, job: Job | None, *, rank: int, world_size: int
    ) -> None:
        self.folder, self.recorder, self.request, self.job = folder, recorder, request, job
        self.rank, self.world_size = rank, world_size
        self.trainer: DiffusionTrainer | None = None
        self.told = False

    @property
    def step(self) -> int:
        """That training has reached, or will go on from."""
        return (self.trainer.step if self.trainer else 0) or max(finished_steps(self.folder / "checkpoint"), default=0)

    def prepare(self, held: ExitStack) -> Exception | None:
        """As the first process, make the run this start's own.

        Args:
            held: keeps the run's lock.

        Returns:
            Why not to go on; None to go on, or where a signal has asked to stop.
        """
        try:
            self._own(held)
            before = RunRecord(self.folder).read()
            if before is not None and _has_ended(before.state):
                return AlreadyEnded(before.state)
            self.recorder.check()
            self._check_data()
            for damaged in set_aside_damaged(self.folder / "checkpoint"):
                logging.error(_DAMAGED.format(damaged.folder, damaged.reason, damaged.kept_as.name))
            info = started(self.recorder.run, self.world_size, before)
            given_up = verdict(Attempts(self.folder).rows(), self.job, self.step) if self.job else None
            if given_up:
                return AlreadyEnded(State.FAILED, replace(info, state=State.FAILED, reason=given_up))
            self.recorder.start(info, self.job, self.step)
        except NoLongerWanted as error:
            logger.warning(str(error))
        except Exception as error:
            return error
        return None

    def _check_data(self) -> None:
        run, where = self.recorder.run, str(RunRecord(self.folder).info_path)
        if run.on_the_fly:
            check_unchanged(run, where)
            self.look_up()
        elif run.data.encoded:
            check_there(run, where)
        check_choices(run)

    def look_up(self) -> None:
        """Find out the sizes of images that are encoded on the fly, or wait for the process that does.

        All do it before they meet, for no collective waits as long as that can take.

        Raises:
            NoLongerWanted: a signal has asked to stop.
        """
        run = self.recorder.run
        if run.data.dataset == "images":
            from prx_scale.data.onthefly.opening import planned_sources
            from prx_scale.data.onthefly.surveying import surveyed

            for planned in planned_sources(run):
                surveyed(run, planned, self.folder.parent.parent, lambda: self.request.number != 0)

    def _own(self, held: ExitStack) -> None:
        going_on = is_held(self.folder)
        if self.job:
            self.recorder.fence = take(self.folder, self.job)
        patience = LOCK_PATIENCE_SECONDS if self.job else 1.0
        held.enter_context(only_one(self.folder, patience, lambda: self.request.number != 0))
        if not self.job:
            take_from_jobs(self.folder)
        elif going_on:
            self.recorder.check()
            Attempts(self.folder).superseded(self.job)

    def train(self, config: DiffusionTrainer.Config, refusal: Exception | None) -> State:
        """Meet the other processes, and train with them.

        Args:
            config: of the trainer.
            refusal: why the first process does not go on.
        """
        try:
            if self.rank:
                with suppress(NoLongerWanted):
                    self.look_up()
            return self._outcome(config, refusal)
        except BaseException as error:
            self._own_error(error)
            self.recorder.fence.check()
            raise
        finally:
            if self.trainer:
                self.trainer.close()
            if dist.is_initialized():
                dist.destroy_process_group()

    def _outcome(self, config: DiffusionTrainer.Config, refusal: Exception | None) -> State:
        """How the run stands. A launcher may kill all others once one has gone: none goes before that is written."""
        try:
            with ExitStack() as watching:
                met = partial(self._met, watching, refusal)
                self.trainer = DiffusionTrainer(config, self.recorder, self.request, met)
                state = self._train_to_an_end(self.trainer)
                dist.barrier()
        except (AlreadyEnded, StopAsked) as reason:
            state = self.ended_before(reason)
            dist.barrier()
        return state

    def _met(self, watching: ExitStack, refusal: Exception | None, device: torch.device) -> None:
        meet(refusal, self.request, device)
        watching.enter_context(watched(self._end_with_peer, self._own_error))

    def ended_before(self, reason: Exception) -> State:
        """Training has not begun.

        Args:
            reason: why.

        Returns:
            How the run stands.

        Raises:
            Exception: the reason itself, where it is an error.
        """
        if isinstance(reason, StopAsked):
            return self._stopped(reason.number)
        if not isinstance(reason, AlreadyEnded):
            raise reason
        if reason.info:
            self.recorder.give_up(reason.info)
        return reason.state

    def _train_to_an_end(self, trainer: DiffusionTrainer) -> State:
        self.recorder.resume_from(latest_step(trainer.checkpointer))
        try:
            trainer.train()
        except NonFiniteLoss as error:
            good = error.last_good_step
            self.recorder.ended(State.FAILED, trainer.step, Ending.FAILED, str(error), last_good_step=good)
            return State.FAILED
        if trainer.stopped_by:
            return self._stopped(trainer.stopped_by)
        self.recorder.ended(State.DONE, trainer.step, Ending.DONE)
        return State.DONE

    def _stopped(self, number: int) -> State:
        self.recorder.fence.check()
        seconds = self.request.seconds_after(self.job.started) if self.job else 0.0
        cause, reason = signal_cause(number, self.job, seconds), signal_reason(number, self.job, seconds)
        self.recorder.ended(State.INTERRUPTED, self.step, cause, reason)
        return State.INTERRUPTED

    def _own_error(self, error: BaseException) -> tuple[str, str]:
        """Write down what ended this process; returns what the others are told: its words and its kind."""
        kind, text = kind_of(error, asked_to_stop=self.request.number != 0), words(error)
        if self.told:
            return text, kind.value
        self.told = True
        where = f" (rank {self.rank} on {socket.gethostname()})" if self.world_size > 1 else ""
        reason = f"{text}{where}{_GOES_ON if kind is Kind.AGAIN else ''}"
        try:
            if kind.state:
                self.recorder.ended(kind.state, self.step, kind.cause, reason)
        except Exception as another:  # the first is the one to be raised
            logging.error(f"could not write down that it ended by {reason}: {words(another)}")
        return text, kind.value

    def _end_with_peer(self, death: Death, write: bool) -> None:
        """End this process, whatever the collective under way is waiting for; one of those left writes down why."""
        kind = Kind.AGAIN if death.kind == DIED else Kind(death.kind)
        code = kind.exit_code
        try:
            if self.recorder.fence.lost():
                kind, code = Kind.SUPERSEDED, Kind.SUPERSEDED.exit_code
            logging.error(f"at step {self.step}: {_reason(death, kind)}")
            if write and kind.state:
                cause = Ending.PEER_DIED if death.kind == DIED else kind.cause
                self.recorder.last_word(self.folder, kind.state, self.step, cause, _reason(death, kind))
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)


def _reason(death: Death, kind: Kind) -> str:
    if kind is Kind.AGAIN:
        return f"{death}{_GOES_ON}"
    return f"{death.reason.removeprefix('failed: ')} (rank {death.rank} on {death.host})"


_DAMAGED = "the checkpoint {} is damaged: {}. It is kept as {}, and the one before it is used."
_GOES_ON = "; the same command goes on from the last checkpoint"


def _log_to_file(path: Path) -> None:
    """TorchTitan logs through the root logger: its lines go to a file of the run, errors and our warnings out too."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler()
    terminal.addFilter(lambda record: record.levelno >= logging.ERROR or record.name.startswith("prx_scale"))
    terminal.setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler, terminal]
    root.setLevel(logging.INFO)
