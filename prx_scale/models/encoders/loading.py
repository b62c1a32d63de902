"""Loading frozen models through transformers and diffusers: whole, in evaluation mode, without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prx_scale.errors import InputError


def load_frozen(cls: Any, folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu", **more: Any) -> Any:
    """Load a model whose weights are all there; the libraries would fill up what is missing at random.

    Args:
        cls: class of transformers or diffusers.
        folder: of config.json and weights.
        dtype: of the weights in memory.
        device: that it runs on.
        more: further arguments of `from_pretrained`.

    Raises:
        InputError: there are no weights, or not those of the model.
    """
    if cls.__module__.startswith("diffusers"):
        # An older name, and no package that is there for models much larger than autoencoders.
        more |= {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    else:
        more["dtype"] = dtype
    try:
        with _quiet():
            model, info = cls.from_pretrained(str(folder), local_files_only=True, output_loading_info=True, **more)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: cannot be loaded as {cls.__name__} ({_first_line(error)})") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} weights of {cls.__name__} are missing, the first of them {missing[0]}; "
            "these are weights of another model, or a part of them"
        )
    return frozen(model, device)


def frozen(model: nn.Module, device: torch.device | str) -> Any:
    """A model that nothing trains: evaluation mode, no gradients.

    Args:
        model: as it was loaded.
        device: that it runs on.
    """
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer.

    Args:
        folder: of its files.

    Raises:
        InputError: they are not those of a tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: cannot be loaded as a tokenizer ({_first_line(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's report of weights that the encoder leaves out, such as those of a decoder."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
