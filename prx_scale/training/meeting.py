"""What the processes of a run tell each other before the model is built: whether there is anything to do at all."""

from __future__ import annotations

import torch
import torch.distributed as dist

from prx_scale.errors import InputError
from prx_scale.owner import Superseded
from prx_scale.runs.info import RunInfo, State
from prx_scale.stopping import StopRequest
from prx_scale.training.failures import Kind, PeerFailed, kind_of, words
from prx_scale.training.trainer import agreed_signal


class AlreadyEnded(Exception):
    """The run is done or has failed, or is given up now."""

    def __init__(self, state: State, info: RunInfo | None = None) -> None:
        """Args: info is what run.json is yet to say."""
        super().__init__(state.value)
        self.state, self.info = state, info


class StopAsked(Exception):
    """A signal asked to stop before training began."""

    def __init__(self, number: int) -> None:
        super().__init__(str(number))
        self.number = number


def meet(refusal: Exception | None, request: StopRequest, device: torch.device) -> None:
    """Go on only if every process does.

    The first process alone looks at the run's folder. Were it just to end, the others would wait for it until a
    timeout, and end as if it had died.

    Args:
        refusal: why the first process does not go on; on the others it is not looked at.
        request: of this process to stop.
        device: that collectives work on.

    Raises:
        AlreadyEnded: on all processes.
        StopAsked: any process was asked to stop, on all processes.
        InputError: the first process met bad input; so do Superseded and, for any other error, PeerFailed stand in
            for it on the others. On the first it is the error itself.
    """
    told: list[tuple[str, str] | None] = [_message(refusal)]
    dist.broadcast_object_list(told, src=0, device=device)
    if refusal and dist.get_rank() == 0:
        raise refusal
    if told[0]:
        raise _heard(*told[0])
    number = agreed_signal(request, device)
    if number:
        raise StopAsked(number)


def _message(refusal: Exception | None) -> tuple[str, str] | None:
    if refusal is None:
        return None
    if isinstance(refusal, AlreadyEnded):
        return "ended", refusal.state.value
    kind = kind_of(refusal)
    # InputError and Superseded are told in full, as they are what the user reads.
    return kind.value, str(refusal) if kind in (Kind.BAD_INPUT, Kind.SUPERSEDED) else words(refusal)


def _heard(kind: str, text: str) -> Exception:
    if kind == "ended":
        return AlreadyEnded(State(text))
    match Kind(kind):
        case Kind.BAD_INPUT:
            return InputError(text)
        case Kind.SUPERSEDED:
            return Superseded(text)
    return PeerFailed(f"rank 0 failed: {text}", Kind(kind))
