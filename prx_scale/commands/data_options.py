"""The options that name captioned images, shared by the verbs that read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from prx_scale.commands.point_options import Repeated
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.data.sources import Fields, Source

_FIELDS = ("captions", "scores", "image", "label", "key")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Captioned images, and which field of a record is what."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """.tar (WebDataset) or .parquet files: paths, URLs, patterns, ranges such as 'shards/{0000..0099}.tar'; or a
    folder of them, of images, or that Hugging Face datasets saved."""
    captions: Repeated = ()
    """KIND=FIELD: where captions of a kind are, as in original=txt or long=json.llava. Repeat for more kinds."""
    scores: Repeated = ()
    """NAME=FIELD: where a score is, as in watermark=json.pwatermark. Repeat for more."""
    image: str = ""
    """Field of the image, where it is not one of the usual names."""
    label: str = ""
    """Field of the class."""
    key: str = ""
    """Field that names a sample in its shard, in Parquet files and folders."""
    no_captions: bool = False
    """Take samples without caption and class too."""

    def fields(self) -> Fields:
        """Which field is what.

        Raises:
            InputError: a pair that is none.
        """
        from prx_scale.data.sources import Fields, parse_pairs

        return Fields(
            image=self.image,
            captions=parse_pairs(self.captions, "--captions"),
            scores=parse_pairs(self.scores, "--scores", "NAME=FIELD, such as watermark=json.pwatermark"),
            label=self.label,
            key=self.key,
            need_caption=not self.no_captions,
        )

    def open(self, *, classes: bool = False) -> Source:
        """The data.

        Args:
            classes: are all that captions are made of.

        Raises:
            InputError: they are not there, of no known format, or lack a field.
        """
        from prx_scale.data.sources import open_source

        try:
            return open_source(self.data, self.fields(), classes=classes)
        except InputError as error:
            raise InputError(_as_options(str(error))) from error


def _as_options(message: str) -> str:
    """A message that names fields in Python, with the options that set them."""
    for name, option in {**dict.fromkeys(_FIELDS), "need_caption": "--no-captions"}.items():
        message = message.replace(f"Fields.{name}", option or f"--{name}")
    return message
