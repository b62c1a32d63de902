"""How well caption and image belong together by CLIP, and how beautiful the image is, from the same embedding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers.utils import logging

from prx_scale.data.decode import Pixels
from prx_scale.data.filters.aesthetic import Head, read_head
from prx_scale.data.filters.base import Caption, Columns, Scorer
from prx_scale.data.filters.clipframe import Framed
from prx_scale.errors import InputError

SIMILARITY = "clip_similarity"
AESTHETIC = "aesthetic"


class ClipScorer(Scorer):
    """clip_similarity: cosine of the embeddings of image and caption, -1 to 1; aesthetic, where a head is given.

    Args:
        model: a local folder or a hub id of a CLIPModel of transformers.
        caption: which one is compared. Of long ones CLIP sees the beginning, 77 tokens.
        head: LAION's predictor; none gives no aesthetic score.
        device: that it runs on, as torch names it; by default a GPU if there is one.

    Raises:
        InputError: one of them cannot be loaded, or they do not belong together.
    """

    def __init__(self, model: str, caption: Caption, *, head: Path | None = None, device: str | None = None) -> None:
        self.name = "CLIP"
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self._model, self._tokenizer, processor = _loaded(model)
        self._mean = torch.tensor(processor.image_mean).view(1, 3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(1, 3, 1, 1)
        self._tokens = int(self._model.config.text_config.max_position_embeddings)
        self.prepare = _framed(processor, caption, model)
        self._head = None if head is None else read_head(head, int(self._model.config.projection_dim))
        self.columns = dict.fromkeys([SIMILARITY] if head is None else [SIMILARITY, AESTHETIC], "float")
        self.identity = {
            "scorer": "clip",
            "version": 1,
            "weights": _digest(self._model),
            "tokenizer": _vocabulary(self._tokenizer),
            "frame": asdict(self.prepare),
            "pixels": [processor.image_mean, processor.image_std],
            "dtype": str(dtype),
            "head": None if self._head is None else _hash_head(self._head),
        }
        self._model.to(self.device, dtype).eval()

    @torch.inference_mode()
    def score(self, prepared: Sequence[tuple[Pixels, str | None]]) -> Columns:
        """The scores of samples; those without a caption have no similarity."""
        images = self._images([pixels for pixels, _ in prepared])
        captioned = [place for place, (_, text) in enumerate(prepared) if text]
        similarities: list[float | None] = [None] * len(prepared)
        if captioned:
            texts = self._texts([str(prepared[place][1]) for place in captioned])
            for place, cosine in zip(captioned, (images[captioned] * texts).sum(dim=1).tolist(), strict=True):
                similarities[place] = cosine
        if self._head is None:
            return {SIMILARITY: similarities}
        return {SIMILARITY: similarities, AESTHETIC: self._head(images.double().cpu().numpy()).tolist()}

    def _images(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """(B, W) image embeddings of length 1, in float32."""
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
        batch = ((batch - self._mean) / self._std).to(self.device, self._model.dtype)
        pooled = self._model.vision_model(pixel_values=batch).pooler_output
        return normalize(self._model.visual_projection(pooled).float(), dim=1)

    def _texts(self, texts: list[str]) -> torch.Tensor:
        """(B, W) text embeddings of length 1, in float32."""
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._tokens, return_tensors="pt")
        pooled = self._model.text_model(**tokens.to(self.device)).pooler_output
        return normalize(self._model.text_projection(pooled).float(), dim=1)


def _loaded(model: str) -> tuple[Any, Any, Any]:
    try:
        with _quiet():
            return _from_pretrained(model)
    except (OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(
            f"--clip {model}: cannot be loaded ({said}); right is a folder that CLIPModel, its tokenizer and its image "
            "processor were saved in, or a hub id such as openai/clip-vit-large-patch14"
        ) from error


def _from_pretrained(model: str) -> tuple[Any, Any, Any]:
    from transformers import AutoConfig, AutoTokenizer, CLIPImageProcessor, CLIPModel

    kind = AutoConfig.from_pretrained(model).model_type
    if kind != "clip":
        raise InputError(f"--clip {model}: a model of kind '{kind}'; 'clip' is right, transformers' CLIPModel")
    return (
        CLIPModel.from_pretrained(model, dtype=torch.float32),
        AutoTokenizer.from_pretrained(model),
        CLIPImageProcessor.from_pretrained(model),
    )


@contextmanager
def _quiet() -> Generator[None]:
    """No bars, and no advice about torchvision, which is not used."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _framed(processor: Any, caption: Caption, model: str) -> Framed:
    size, crop = dict(processor.size), dict(processor.crop_size)
    resized = size.get("shortest_edge")
    if not (processor.do_resize and processor.do_center_crop and resized) or max(crop.values()) > resized:
        raise InputError(
            f"--clip {model}: its images are not scaled by the shorter side and cut at the centre: {size}, {crop}"
        )
    return Framed(
        resized=int(resized),
        height=int(crop["height"]),
        width=int(crop["width"]),
        resample=int(processor.resample),
        caption=caption,
    )


def _digest(model: Any) -> str:
    """Hash of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _vocabulary(tokenizer: Any) -> str:
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def _hash_head(head: Head) -> str:
    values: NDArray[np.float64] = np.append(head.weight, head.bias)
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
