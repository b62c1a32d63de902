"""What may be done to captions before they are encoded. Needs no torch.

Captions are read as they are unless a recipe says otherwise. Cleaning as DeepFloyd's, which lower-cases and removes
digits, punctuation, addresses and Chinese characters, takes away what a model should learn to write into images; there
is no option for it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Literal

Cleaning = Literal["none", "light"]

_SPACE = re.compile(r"\s+")
_INVISIBLE = "\ufeff\u200b"
"""Byte-order mark and zero-width space. Joiners stay: Persian words and emoji are made with them."""


def clean(caption: str, how: Cleaning = "none") -> str:
    """Clean a caption.

    Args:
        caption: as it came.
        how: none; or light: HTML's references become the characters that they stand for (twice, as crawled captions are
            often escaped twice), composed characters one code point (NFC), and control characters and runs of white
            space one space.

    Returns:
        The caption. Halves of surrogate pairs, which are no text and which tokenizers refuse, are replaced in any case.
    """
    text = caption.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if how == "none":
        return text
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)))
    text = "".join(" " if letter in _INVISIBLE or unicodedata.category(letter) == "Cc" else letter for letter in text)
    return _SPACE.sub(" ", text).strip()
