"""The frozen encoders by name: sizes, padding, normalisation, and where published weights are. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from prx_scale.data.shapes.captions import MAX_TOKENS
from prx_scale.data.shapes.text import TEXT_DIM
from prx_scale.errors import InputError, nearest

TextKind = Literal["clip", "t5", "t5gemma", "gemma", "qwen2.5-vl", "shapes"]
ImageKind = Literal["kl", "flux2", "dc", "pixels"]
TOKENS_OF_CLIP = 77

QWEN_IMAGE_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""Qwen-Image's (Wu et al. 2025): the system turn asks for a description, the user's is the caption. With Qwen's
tokenizer 34 tokens come before the caption; their states are dropped."""


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """A frozen text encoder, and how captions become its states."""

    name: str
    kind: TextKind
    tokens: int
    """Length of the states; longer captions are cut."""
    width: int
    """Of a token's state."""
    pooled: int = 0
    """Width of the pooled state; 0 where there is none."""
    pad: int | Literal["eos"] = 0
    """Token that shorter captions are filled up with; eos: the tokenizer's end of text (49407 for CLIP)."""
    padding_side: Literal["right"] = "right"
    """States are stored with padding at the end, whatever side the tokenizer would choose."""
    masked: bool = False
    """Padding is masked in the encoder, and its states are zero; else it is read like any token, as SD3 does."""
    projected: bool = False
    """CLIP: the pooled state goes through the text projection."""
    template: str = ""
    """The caption takes the place of {} in it; what is before {} is read, but its states are dropped."""
    folder: str = "text_encoder"
    """Of its weights in a folder of a pipeline; that of the tokenizer is called after it."""
    parameters: int = 0
    hub: str = ""
    """Published weights: OWNER/NAME, or OWNER/NAME/FOLDER."""

    def bytes_per_caption(self, item: int = 2) -> int:
        """Size of a caption's states.

        Args:
            item: bytes of a number: 2 for bf16, 1 for fp8.
        """
        return (self.tokens * self.width + self.pooled) * item


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """A frozen image encoder: the latents that a backbone is trained on, before they are cut into its patches."""

    name: str
    kind: ImageKind
    channels: int
    downsampling: int
    """Pixels along one side of a latent."""
    normalisation: Literal["scale", "batch norm", "none"]
    """scale: (z - shift) * scale, one for all channels; batch norm: by channel, out of the weights' statistics."""
    scale: float | tuple[float, ...] | None = None
    """One, or one for each channel. None: what the weights say, in config.json or in their statistics."""
    shift: float | tuple[float, ...] | None = None
    deterministic: bool = False
    """It gives latents, not their mean and standard deviation."""
    folder: str = "vae"
    hub: str = ""

    def bytes_per_image(self, pixels: int, item: int = 2) -> int:
        """Size of an image's moments, or latents.

        Args:
            pixels: height x width.
            item: bytes of a number.
        """
        return pixels // self.downsampling**2 * self.channels * item * (1 if self.deterministic else 2)


_TEXT = (
    TextSpec(
        name="clip-l",
        kind="clip",
        tokens=TOKENS_OF_CLIP,
        width=768,
        pooled=768,
        pad="eos",
        parameters=123_060_480,
        hub="openai/clip-vit-large-patch14",
    ),
    TextSpec(
        name="clip-g",
        kind="clip",
        tokens=TOKENS_OF_CLIP,
        width=1280,
        pooled=1280,
        projected=True,
        folder="text_encoder_2",
        parameters=694_659_840,
        hub="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    ),
    TextSpec(
        name="t5",
        kind="t5",
        tokens=77,
        width=4096,
        folder="text_encoder_3",
        parameters=4_762_310_656,
        hub="google/t5-v1_1-xxl",
    ),
    TextSpec(
        name="t5gemma",
        kind="t5gemma",
        tokens=256,
        width=2304,
        masked=True,
        parameters=2_614_341_888,
        hub="google/t5gemma-2b-2b-ul2",
    ),
    TextSpec(
        name="gemma",
        kind="gemma",
        tokens=256,
        width=2304,
        masked=True,
        parameters=2_614_341_888,
        hub="google/gemma-2-2b",
    ),
    TextSpec(
        name="qwen2.5-vl",
        kind="qwen2.5-vl",
        tokens=512,
        width=3584,
        masked=True,
        template=QWEN_IMAGE_TEMPLATE,
        parameters=7_070_619_136,
        hub="Qwen/Qwen2.5-VL-7B-Instruct",
    ),
    TextSpec(name="shapes-words", kind="shapes", tokens=MAX_TOKENS, width=TEXT_DIM, pooled=TEXT_DIM),
    TextSpec(name="shapes", kind="shapes", tokens=MAX_TOKENS, width=TEXT_DIM, pooled=TEXT_DIM),
)

_IMAGE = (
    ImageSpec(name="pixels", kind="pixels", channels=3, downsampling=1, normalisation="none", deterministic=True),
    ImageSpec(name="kl-4", kind="kl", channels=4, downsampling=8, normalisation="scale"),
    ImageSpec(name="kl-8", kind="kl", channels=8, downsampling=8, normalisation="scale"),
    ImageSpec(name="kl-16", kind="kl", channels=16, downsampling=8, normalisation="scale"),
    ImageSpec(
        name="sd",
        kind="kl",
        channels=4,
        downsampling=8,
        normalisation="scale",
        scale=0.18215,
        shift=0.0,
        hub="stabilityai/sd-vae-ft-mse",
    ),
    ImageSpec(
        name="sdxl",
        kind="kl",
        channels=4,
        downsampling=8,
        normalisation="scale",
        scale=0.13025,
        shift=0.0,
        hub="stabilityai/sdxl-vae",
    ),
    ImageSpec(
        name="sd3",
        kind="kl",
        channels=16,
        downsampling=8,
        normalisation="scale",
        scale=1.5305,
        shift=0.0609,
        hub="stabilityai/stable-diffusion-3.5-large/vae",
    ),
    ImageSpec(
        name="flux1",
        kind="kl",
        channels=16,
        downsampling=8,
        normalisation="scale",
        scale=0.3611,
        shift=0.1159,
        hub="black-forest-labs/FLUX.1-dev/vae",
    ),
    ImageSpec(
        name="repa-e",
        kind="kl",
        channels=16,
        downsampling=8,
        normalisation="scale",
        hub="REPA-E/e2e-flux-vae",
    ),
    ImageSpec(
        name="flux2",
        kind="flux2",
        channels=128,
        downsampling=16,
        normalisation="batch norm",
        hub="black-forest-labs/FLUX.2-dev/vae",
    ),
    ImageSpec(
        name="dc-ae",
        kind="dc",
        channels=32,
        downsampling=32,
        normalisation="scale",
        scale=0.41407,
        shift=0.0,
        deterministic=True,
        hub="mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
    ),
)

TEXT: Mapping[str, TextSpec] = MappingProxyType({spec.name: spec for spec in _TEXT})
IMAGE: Mapping[str, ImageSpec] = MappingProxyType({spec.name: spec for spec in _IMAGE})


def text_spec(name: str | TextSpec, where: str = "text encoder") -> TextSpec:
    """A text encoder of the registry.

    Args:
        name: in the registry; what is not a name is handed back.
        where: file and key, for errors.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(name, TextSpec):
        return name
    if name not in TEXT:
        raise InputError(f"{where}: '{name}' is not a text encoder; {nearest(name, TEXT)}")
    return TEXT[name]


def image_spec(name: str | ImageSpec, where: str = "image encoder") -> ImageSpec:
    """An image encoder of the registry.

    Args:
        name: in the registry; what is not a name is handed back.
        where: file and key, for errors.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(name, ImageSpec):
        return name
    if name not in IMAGE:
        raise InputError(f"{where}: '{name}' is not an image encoder; {nearest(name, IMAGE)}")
    return IMAGE[name]
