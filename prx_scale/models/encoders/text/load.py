"""Text encoders by name, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from prx_scale.models.encoders.declared import check_text
from prx_scale.models.encoders.loading import load_frozen, load_tokenizer
from prx_scale.models.encoders.locating import Located, locate
from prx_scale.models.encoders.registry import TextKind, TextSpec, text_spec
from prx_scale.models.encoders.text.base import FrozenText, Pretrained
from prx_scale.models.encoders.text.cleaning import Cleaning
from prx_scale.models.encoders.text.clip import Clip
from prx_scale.models.encoders.text.language_models import Gemma, QwenVL
from prx_scale.models.encoders.text.shapes import Shapes
from prx_scale.models.encoders.text.t5 import T5

_CLASSES: Mapping[TextKind, type[Pretrained]] = {
    "clip": Clip,
    "t5": T5,
    "t5gemma": Gemma,
    "gemma": Gemma,
    "qwen2.5-vl": QwenVL,
}


def load_text(
    name: str | TextSpec,
    source: str = "",
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    cleaning: Cleaning = "none",
) -> FrozenText:
    """Load a frozen text encoder.

    Args:
        name: in the registry; or a recipe, as `sized_text` makes it for weights of other sizes.
        source: folder, or hub id; "" is the registry's.
        dtype: of weights and states.
        device: that it runs on.
        cleaning: of captions.

    Raises:
        InputError: an unknown name, no such folder, or weights of other sizes.
    """
    spec = text_spec(name)
    if spec.kind == "shapes":
        return Shapes(spec=spec, dtype=dtype, device=device)
    located = locate(spec, source)
    check_text(spec, located.model)
    tokenizer = load_tokenizer(located.tokenizer or located.model)
    model = _model(spec, located, dtype, device)
    return _CLASSES[spec.kind](spec=spec, located=located, model=model, tokenizer=tokenizer, cleaning=cleaning)


def _model(spec: TextSpec, located: Located, dtype: torch.dtype, device: torch.device | str) -> Any:
    import transformers

    folder = located.model
    match spec.kind:
        case "clip":
            cls = transformers.CLIPTextModelWithProjection if spec.projected else transformers.CLIPTextModel
            return load_frozen(cls, folder, dtype=dtype, device=device)
        case "t5":
            return load_frozen(transformers.T5EncoderModel, folder, dtype=dtype, device=device)
        case "t5gemma":
            return load_frozen(
                transformers.T5GemmaEncoderModel, folder, dtype=dtype, device=device, is_encoder_decoder=False
            )
        case "gemma":
            return load_frozen(transformers.AutoModel, folder, dtype=dtype, device=device)
        case _:
            whole = load_frozen(transformers.Qwen2_5_VLModel, folder, dtype=dtype)
            return whole.language_model.to(device)
