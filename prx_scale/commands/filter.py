"""``prx-scale filter``: scores of captioned images, cuts through them, and weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from prx_scale.commands.data_options import DataOptions
from prx_scale.commands.point_options import Repeated, command_line, write_json
from prx_scale.errors import InputError

if TYPE_CHECKING:
    from prx_scale.data.filters.base import Scorer
    from prx_scale.data.filters.choosing import Choice
    from prx_scale.data.filters.verdict import Rules
    from prx_scale.data.filters.writing import Result
    from prx_scale.data.sources import Source

SCORES = "scores"


@dataclass(frozen=True, kw_only=True)
class Filter(DataOptions):
    """Score captioned images, cut and weight them; nothing is deleted, later steps read the result.

    Writes a table of all samples with their scores, what removes each, and its weight. Scores are kept shard by shard:
    the same command goes on where it stopped, and other cuts over the same scores take seconds.

    Scores: height, width, min_side, pixels, aspect (width / height), file_bytes, caption_chars, caption_words,
    duplicate_of (the copy that is kept), clip_similarity and aesthetic with --clip and --aesthetic, and those that
    --scores and --scorer name.

    Example: prx-scale filter 'shards/*.tar' --out filtered --cut "min_side>=512" --cut "duplicate_of==" --html f.html

    Example: prx-scale filter 'shards/*.tar' --out filtered --clip openai/clip-vit-large-patch14 --aesthetic
    sac+logos+ava1-l14-linearMSE.pth --cut "clip_similarity>=q0.2" --cut "aesthetic>=5" --weight "aesthetic>=q0.9:2"

    Example: prx-scale filter photos/ --scores watermark=json.pwatermark --out filtered --cut "watermark<0.5 or none"
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the scores and the result."""
    cut: Repeated = ()
    """Condition that samples must meet: SCORE, one of >= > <= < == !=, and a number, or q and a quantile of all that
    have the score; `or none` behind it lets those pass that lack the score. `duplicate_of==` keeps what is no copy.
    Repeat: the order matters only for which cut a sample is counted to."""
    weight: Repeated = ()
    """CONDITION:FACTOR, as in aesthetic>=q0.9:2, or inverse:COLUMN, as in inverse:cluster^0.5, which weights by how
    rare a value is among kept samples. Repeat to multiply."""
    duplicates: Annotated[int, tyro.conf.arg(metavar="BITS")] = 0
    """Of 64, in which the perceptual hashes of copies may differ: 0 finds the same picture at other sizes and
    qualities, up to 4 more of them."""
    no_duplicates: bool = False
    """Do not look for copies; images are then only decoded where another scorer needs it."""
    clip: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """Score how well caption and image belong together: a folder or hub id of transformers' CLIPModel."""
    aesthetic: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Score how beautiful an image is: one of LAION's predictors, as .safetensors or .pth."""
    scorer: Repeated = ()
    """NAME=module:callable or NAME=file.py:callable, a scorer of your own. Repeat for more."""
    caption: str = ""
    """Kind of the caption that is scored. Default: the original one, else the first."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that read and decode images."""
    device: str | None = None
    """What CLIP runs on, as torch names it. Default: a GPU if there is one."""
    part: Annotated[str, tyro.conf.arg(metavar="I/N")] = ""
    """Only score the I-th of N parts of the shards, from 1; run once more without it when all are done."""
    json: str | None = None
    """Write the manifest, without its shards, as JSON to this file; - writes it, and nothing else, to standard
    output."""
    html: Path | None = None
    """Write a self-contained HTML page with distributions and example images to this file."""

    def run(self) -> int:
        """Score, cut, write and print; 0 on success.

        Raises:
            InputError: data, an option or a model that cannot be used.
        """
        from prx_scale.commands.children import quiet_threads
        from prx_scale.locks import only_one

        quiet_threads()
        rules, part = self._rules(), self._part()
        self._check()
        source, choice = self.open(), self._choice()
        choice.check(source)
        choice.check_rules(rules)
        if part is not None:
            self._score(source, choice.all(), part)
            print(f"part {part[0] + 1} of {part[1]} is scored; when all are, run without --part")
            return 0
        scorers = choice.all()
        with only_one(self.out):
            self._score(source, scorers, (0, 1))
            self._finish(source, scorers, rules, choice)
        return 0

    def _check(self) -> None:
        if self.workers < 1:
            raise InputError(f"--workers: {self.workers} is too small; at least 1")
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is a file; a folder is right, which need not be there")
        if self.html is not None and self.html.is_dir():
            raise InputError(f"--html {self.html}: is a folder; name the file, as {self.html / 'filter.html'}")
        if self.json is not None and Path(self.json).is_dir():
            raise InputError(f"--json {self.json}: is a folder; name the file, as {Path(self.json) / 'filter.json'}")

    def _rules(self) -> Rules:
        from prx_scale.data.filters.cuts import parse_cut
        from prx_scale.data.filters.duplicates import FARTHEST
        from prx_scale.data.filters.verdict import Rules
        from prx_scale.data.filters.weights import parse_weight

        if not 0 <= self.duplicates <= FARTHEST:
            raise InputError(f"--duplicates {self.duplicates}: 0 to {FARTHEST} bits are right")
        return Rules(
            cuts=tuple(parse_cut(text) for text in self.cut),
            weights=tuple(parse_weight(text) for text in self.weight),
            distance=None if self.no_duplicates else self.duplicates,
        )

    def _part(self) -> tuple[int, int] | None:
        if not self.part:
            return None
        number, slash, parts = self.part.partition("/")
        if not (slash and number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
            raise InputError(f"--part {self.part}: I/N with I from 1 to N is right, as in 3/8")
        return int(number) - 1, int(parts)

    def _choice(self) -> Choice:
        from prx_scale.data.filters.base import Caption
        from prx_scale.data.filters.choosing import Choice
        from prx_scale.data.sources import parse_pairs

        fields = self.fields()
        named = fields.captions.get(self.caption) or ",".join(map("=".join, fields.captions.items()))
        return Choice(
            fields=fields,
            caption=Caption(kind=self.caption, field=named),
            hashes=not self.no_duplicates,
            clip=self.clip,
            aesthetic=self.aesthetic,
            device=self.device,
            custom=parse_pairs(self.scorer, "--scorer", "NAME=module:callable, as in watermark=scorers.py:Watermark"),
        )

    def _score(self, source: Source, scorers: list[Scorer], part: tuple[int, int]) -> None:
        from prx_scale.commands.filter_output import counting
        from prx_scale.data.filters.scoring import score

        total = int(source.counts()[part[0] :: part[1]].sum())
        with counting(total) as show:
            folder = self.out / SCORES
            score(source, scorers, folder, fields=self.fields(), part=part, workers=self.workers, show=show)

    def _finish(self, source: Source, scorers: list[Scorer], rules: Rules, choice: Choice) -> None:
        from prx_scale.commands.filter_output import print_result
        from prx_scale.data.filters.summary import summarise
        from prx_scale.data.filters.writing import write_result
        from prx_scale.runs.files import write_atomically
        from reports.filter_page import render_filter_page

        result = self._judged(source, scorers, rules)
        info = write_result(result, self.out)
        write_json({name: value for name, value in info.items() if name != "shards"}, self.json)
        if self.html is not None:
            write_atomically(self.html, render_filter_page(summarise(result, choice.caption)))
        if self.json != "-":
            print_result(result, self.out)
            for path in (self.json, self.html):
                if path is not None:
                    print(f"wrote {path}")

    def _judged(self, source: Source, scorers: list[Scorer], rules: Rules) -> Result:
        from prx_scale import __version__
        from prx_scale.data.filters.scoretable import Scores
        from prx_scale.data.filters.verdict import judge
        from prx_scale.data.filters.writing import Result
        from prx_scale.runs.clock import now

        scores = Scores(
            folder=self.out / SCORES,
            shards=source.shards,
            counts=tuple(int(count) for count in source.counts()),
            types={name: kind for scorer in scorers for name, kind in scorer.columns.items()},
        )
        scores.check({scorer.name: scorer.hash for scorer in scorers})
        provenance: dict[str, Any] = {"version": __version__, "created": now(), "command": command_line(sys.argv)}
        verdict = judge(scores, rules)
        return Result(
            source=source, scorers=scorers, scores=scores, rules=rules, verdict=verdict, provenance=provenance
        )
