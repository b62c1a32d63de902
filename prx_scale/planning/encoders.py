"""Memory of a GPU that encoders take while a run trains. Needs no torch."""

from __future__ import annotations

from prx_scale.config import RunConfig
from prx_scale.data.encoding.plan import named
from prx_scale.models.encoders.registry import text_spec
from prx_scale.planning.memory import GIB

_BYTES = {"bfloat16": 2, "float32": 4}


def encoders_gib(run: RunConfig) -> float:
    """Weights of the text encoders of all processes that encode on the GPU of a process that trains.

    Autoencoders, of some 80 million parameters, what encoders compute with, and the contexts of these processes are for
    the headroom.

    Args:
        run: of a study.
    """
    encoding = run.encoding
    if not run.on_the_fly or encoding.device == "cpu":
        return 0.0
    weights = sum(text_spec(named(each)[0]).parameters for each in encoding.text_encoders)
    return encoding.processes * weights * _BYTES[encoding.precision] / GIB
