"""Image files as RGB pixels: decoded right, or skipped with a reason, never a crash.

JPEG, PNG, WebP and GIF (of animations the first frame) of any mode become 8-bit RGB: CMYK and YCCK converted, grey
spread, palettes looked up, 16 bits cut to their upper 8, transparency laid over white, turned upright as EXIF says.
Colour profiles are ignored. Sizes are checked in the header, before anything is decoded.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prx_scale.data.headers import Kind, jpeg_scans, kind_of, webp_size
from prx_scale.data.samples import RawSample, Skip, Skipped

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""

# Sizes are bounded below by what the caller allows; Pillow's own bound would only warn beside it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged EXIF counts as none, transparency is dealt with below.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
_MOST_SCANS = 100

DRAFT_GAP = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 where that is still so many times as large as what it becomes. That changes the
result about as much as a Lanczos filter in place of the bicubic one would."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused by its size in pixels."""

    max_pixels: int = 1 << 26
    """64 megapixels: 256 MiB once decoded."""
    min_pixels: int = 64
    max_ratio: float = 8.0
    """Longer side over shorter."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An image at an exact size: scaled until it covers it, then cut at the centre."""

    pixels: Pixels
    """(H, W, 3)"""
    original: tuple[int, int]
    """Height and width of the upright image before."""
    crop: tuple[int, int]
    """Rows above and columns left of the cut, in pixels of the scaled image."""


class OpenedImage:
    """An image whose header is read and found good."""

    def __init__(self, image: Image.Image, sample: RawSample, kind: Kind) -> None:
        self._opened: Image.Image | None = image
        self._sample, self._kind, self._full = sample, kind, image.size
        self._orientation = _orientation(image)
        width, height = image.size
        self._aside = self._orientation in _ON_ITS_SIDE
        self.size: tuple[int, int] = (width, height) if self._aside else (height, width)
        """Height and width of the upright image."""

    def pixels(self, at_least: tuple[int, int] | None = None) -> Pixels | Skipped:
        """All of it.

        Args:
            at_least: height and width that are enough: a larger JPEG may be decoded at 1/2, 1/4 or 1/8.
        """
        try:
            image = self._taken()
            if at_least is not None:
                height, width = at_least[::-1] if self._aside else at_least
                image.draft("RGB", (width, height))
            return _array(self._upright(_as_rgb(image)))
        except Exception as error:
            # Decoders raise whatever they trip over: OSError, SyntaxError, ValueError, struct.error ...
            return self._skipped(error)

    def fitted(self, height: int, width: int) -> Fitted | Skipped:
        """Scaled until it covers an exact size, and cut at the centre to it.

        One pass of a bicubic filter with antialiasing over the part that stays: the arithmetic of Pillow's, in a
        seventh of its time, by torch.

        Args:
            height: rows of the result.
            width: columns of the result.
        """
        scale = max(height / self.size[0], width / self.size[1])
        above, left = (round((side * scale - cut) / 2) for side, cut in zip(self.size, (height, width), strict=True))
        try:
            pixels = self._scaled(height, width, scale)
        except Exception as error:
            return self._skipped(error)
        return Fitted(pixels=pixels, original=self.size, crop=(above, left))

    def _scaled(self, height: int, width: int, scale: float) -> Pixels:
        wanted = (height, width) if self._aside else (width, height)
        drafted = self._taken()
        drafted.draft("RGB", (_at_least(self._full[0], scale), _at_least(self._full[1], scale)))
        image = _as_rgb(drafted)
        # A cut at the centre is the same one in an image that has yet to be turned.
        (left, right), (above, below) = (
            _centred(have, cut / scale * have / had)
            for cut, have, had in zip(wanted, image.size, self._full, strict=True)
        )
        if (left, above, right, below) != (0, 0, *image.size):
            image = image.crop((left, above, right, below))
        pixels = _resampled(_array(image), wanted[1], wanted[0])
        if self._orientation in _UPRIGHT:
            return _array(self._upright(Image.fromarray(pixels)))
        return pixels

    def _taken(self) -> Image.Image:
        """The image as it is before decoding, which may have been done at a lower resolution before."""
        image, self._opened = self._opened, None
        return image or Image.open(io.BytesIO(self._sample.image), formats=(self._kind,))

    def _upright(self, image: Image.Image) -> Image.Image:
        method = _UPRIGHT.get(self._orientation)
        return image if method is None else image.transpose(method)

    def _skipped(self, error: Exception) -> Skipped:
        _raise_if_ours(error)
        cut = isinstance(error, EOFError) or "truncated" in str(error)
        reason = Skip.TRUNCATED_IMAGE if cut else Skip.CORRUPT_IMAGE
        return Skipped(key=self._sample.key, shard=self._sample.shard, reason=reason, detail=_said(error))


def _raise_if_ours(error: Exception) -> None:
    """No image is to blame where memory has run out or a library is missing."""
    if isinstance(error, (MemoryError, ImportError)):
        raise error


def open_image(sample: RawSample, limits: Limits = DEFAULT_LIMITS) -> OpenedImage | Skipped:
    """Read the header of a sample's image.

    Args:
        sample: the image file as it is stored.
        limits: what is refused by its size.

    Returns:
        The image, to be decoded when its size is known to be wanted, or why there is none.
    """

    def skipped(reason: Skip, detail: str) -> Skipped:
        return Skipped(key=sample.key, shard=sample.shard, reason=reason, detail=detail)

    kind = kind_of(sample.image)
    if kind is None:
        return skipped(Skip.UNKNOWN_FORMAT, f"begins with {sample.image[:8]!r}; JPEG, PNG, WebP and GIF are read")
    # Pillow's WebP decoder takes memory for the whole canvas when it opens a file.
    if kind == "WEBP" and (size := webp_size(sample.image)) and (wrong := _wrong_size(*size, limits)):
        return skipped(*wrong)
    try:
        image = Image.open(io.BytesIO(sample.image), formats=(kind,))
        if wrong := _wrong_size(*image.size, limits):
            return skipped(*wrong)
        if "progressive" in image.info and (scans := jpeg_scans(sample.image)) > _MOST_SCANS:
            return skipped(Skip.CORRUPT_IMAGE, f"{scans} scans, which would take minutes to decode")
        return OpenedImage(image, sample, kind)
    except Image.DecompressionBombError as error:
        return skipped(Skip.TOO_MANY_PIXELS, str(error))
    except Exception as error:
        _raise_if_ours(error)
        cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        return skipped(Skip.TRUNCATED_IMAGE if cut else Skip.CORRUPT_IMAGE, _said(error))


def decode(
    sample: RawSample, limits: Limits = DEFAULT_LIMITS, at_least: tuple[int, int] | None = None
) -> Pixels | Skipped:
    """All pixels of a sample's image, upright.

    Args:
        sample: the image file as it is stored.
        limits: what is refused by its size.
        at_least: height and width that are enough: a larger JPEG may be decoded at 1/2, 1/4 or 1/8.
    """
    image = open_image(sample, limits)
    return image if isinstance(image, Skipped) else image.pixels(at_least)


def fit(sample: RawSample, height: int, width: int, limits: Limits = DEFAULT_LIMITS) -> Fitted | Skipped:
    """A sample's image at an exact size; see :meth:`OpenedImage.fitted`.

    Args:
        sample: the image file as it is stored.
        height: rows of the result.
        width: columns of the result.
        limits: what is refused by its size.
    """
    image = open_image(sample, limits)
    return image if isinstance(image, Skipped) else image.fitted(height, width)


def _wrong_size(width: int, height: int, limits: Limits) -> tuple[Skip, str] | None:
    told = f"{width} x {height}"
    if width < 1 or height < 1:
        return Skip.CORRUPT_IMAGE, told
    if width * height > limits.max_pixels:
        return Skip.TOO_MANY_PIXELS, f"{told}; at most {limits.max_pixels} pixels"
    if max(width, height) > limits.max_ratio * min(width, height):
        return Skip.EXTREME_SHAPE, f"{told}; at most {limits.max_ratio:g} times as long as wide"
    if width * height < limits.min_pixels:
        return Skip.TOO_FEW_PIXELS, f"{told}; at least {limits.min_pixels} pixels"
    return None


def _at_least(side: int, scale: float) -> int:
    return max(1, min(side, int(side * scale * DRAFT_GAP)))


def _centred(length: int, part: float) -> tuple[int, int]:
    """First whole pixel of the middle part of a length, and the one to end before."""
    first = int((length - min(part, length)) / 2 + 0.5)
    return first, max(int((length + min(part, length)) / 2 + 0.5), first + 1)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or EXIF is damaged."""
    if "exif" not in image.info:
        return 1
    try:
        found: Any = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode, transparency over white."""
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        paper = Image.new("RGB", over.size, (255, 255, 255))
        paper.paste(over, mask=over.getchannel("A"))
        return paper
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion would clip 16-bit greys at 255."""
    grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint16) >> 8
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _resampled(pixels: Pixels, height: int, width: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    import torch

    # Channels last, torch resamples bytes with vector instructions.
    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return np.ascontiguousarray(scaled[0].permute(1, 2, 0).numpy())


def _array(image: Image.Image) -> Pixels:
    return np.array(image, dtype=np.uint8)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
