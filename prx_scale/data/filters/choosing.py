"""The scorers that a filter was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path

from prx_scale.data.filters.base import Caption, Scorer, Type, caption_kinds
from prx_scale.data.filters.custom import CustomScorer
from prx_scale.data.filters.cuts import DUPLICATE, Kind
from prx_scale.data.filters.plain import hash_scorer, length_scorer, size_scorer, source_scorer
from prx_scale.data.filters.verdict import Rules
from prx_scale.data.sources import Fields, Source
from prx_scale.errors import InputError, nearest

MODELS = {"clip_similarity": "--clip MODEL", "aesthetic": "--clip MODEL and --aesthetic FILE"}
"""What it takes to have a score that a model gives."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What samples are to be scored by."""

    fields: Fields = field(default_factory=Fields)
    """Where the source has scores."""
    caption: Caption = field(default_factory=Caption)
    """The one that is scored."""
    hashes: bool = True
    """Whether copies are looked for."""
    clip: str = ""
    """Local folder or hub id of a CLIP model."""
    aesthetic: Path | None = None
    """LAION's predictor, for that CLIP model."""
    device: str | None = None
    custom: Mapping[str, str] = field(default_factory=dict[str, str])
    """`module:callable` by name of score."""

    def columns(self) -> dict[str, Kind]:
        """The kind of each score that there will be, found without loading models."""
        types: dict[str, Type] = {name: kind for scorer in self.light() for name, kind in scorer.columns.items()}
        if self.clip:
            types["clip_similarity"] = "float"
        if self.aesthetic is not None:
            types["aesthetic"] = "float"
        kinds: dict[str, Kind] = {name: "text" if kind == "text" else "number" for name, kind in types.items()}
        kinds.pop("phash", None)
        return {**kinds, DUPLICATE: "text"} if self.hashes else kinds

    def light(self) -> list[Scorer]:
        """The scorers that need no CLIP model.

        Raises:
            InputError: one of the user's own cannot be used.
        """
        scorers = [size_scorer(), length_scorer(self.caption), source_scorer(self.fields.scores, self.fields.label)]
        scorers += [hash_scorer()] if self.hashes else []
        return [self._of_field(each) for each in (*scorers, *starmap(CustomScorer, self.custom.items()))]

    def all(self) -> list[Scorer]:
        """Every scorer, with its model loaded.

        Raises:
            InputError: a model or a callable cannot be used.
        """
        if not self.clip:
            return self.light()
        from prx_scale.data.filters.clip import ClipScorer

        clip = ClipScorer(self.clip, self.caption, head=self.aesthetic, device=self.device)
        return [*self.light(), self._of_field(clip)]

    def _of_field(self, scorer: Scorer) -> Scorer:
        """The scorer, known as another one where another field holds the image or, for the user's own, the captions."""
        if self.fields.image:
            scorer.identity = {**scorer.identity, "image": self.fields.image}
        if self.fields.captions and isinstance(scorer, CustomScorer):
            scorer.identity = {**scorer.identity, "captions": dict(self.fields.captions)}
        return scorer

    def check_rules(self, rules: Rules) -> None:
        """Refuse rules that the scores will not answer, before anything is loaded.

        Args:
            rules: cuts and weights.

        Raises:
            InputError: names the cut or the weight.
        """
        columns = self.columns()
        for option, asked in (("--cut", rules.cuts), ("--weight", rules.weights)):
            for each in asked:
                if each.column in MODELS and each.column not in columns:
                    raise InputError(
                        f"{option} '{each.text}': no score '{each.column}'; give {MODELS[each.column]}, or "
                        f"--scores {each.column}=FIELD where the data have it"
                    )
        rules.check(columns)

    def check(self, source: Source) -> None:
        """Refuse what does not go together, before anything is loaded.

        Args:
            source: of the samples.

        Raises:
            InputError: an aesthetic predictor without CLIP, or a kind of caption that no sample has.
        """
        if self.aesthetic is not None and not self.clip:
            raise InputError(
                f"--aesthetic {self.aesthetic}: a predictor needs the embeddings of a CLIP model; LAION's go with "
                "--clip openai/clip-vit-large-patch14"
            )
        if self.caption.kind and self.caption.kind not in (kinds := caption_kinds(source)):
            raise InputError(
                f"--caption {self.caption.kind}: none of the first samples has such a caption; "
                f"{nearest(self.caption.kind, kinds)}"
            )
