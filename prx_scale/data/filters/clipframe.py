"""An image and its caption as CLIP takes them, made where the image is decoded: without torch, which starts slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from prx_scale.data.decode import DRAFT_GAP, Pixels
from prx_scale.data.filters.base import Caption, Seen


@dataclass(frozen=True, kw_only=True)
class Framed:
    """An image as CLIP takes it, in bytes, and the caption: scaled by its shorter side, and cut at the centre."""

    resized: int
    """Shorter side after scaling."""
    height: int
    width: int
    resample: int
    caption: Caption

    @property
    def side(self) -> int:
        """A JPEG is decoded smaller where that is still twice as large."""
        return DRAFT_GAP * self.resized

    def __call__(self, seen: Seen) -> tuple[Pixels, str | None]:
        """(height, width, 3) and the caption."""
        assert seen.pixels is not None
        image = Image.fromarray(seen.pixels)
        shorter = min(image.size)
        wide, high = (self.resized * each // shorter for each in image.size)
        left, above = (wide - self.width) // 2, (high - self.height) // 2
        scaled = image.resize((wide, high), Image.Resampling(self.resample))
        cut = scaled.crop((left, above, left + self.width, above + self.height))
        return np.asarray(cut, dtype=np.uint8), self.caption.of(seen.sample)
