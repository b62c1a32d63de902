"""The top of the study page: what this is, the main numbers and the verdict."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import cast

from prx_scale.runs.info import RunInfo, State
from reports import units
from reports.page import Block, Bullets, Fact, Facts, Prose, Section
from reports.sections.dataset import dataset_examples
from reports.sections.evaluation import loss_and_score, strength
from reports.sections.prediction import verdict
from reports.sections.runs import last_scores, progress, stopped_sentence
from reports.study_data import StudyData, setting


def about_section(study: StudyData) -> Section:
    """What this page reports, honestly."""
    blocks: list[Block] = [Prose(text=_sentence(study))]
    if study.description:
        blocks.append(Prose(text=f"In its own words: {study.description.rstrip('.')}."))
    if study.smoke:
        text = (
            "This is a smoke run: shortened until it only shows that the chain works from training to report. Its "
            "numbers are measured but say nothing about scaling."
        )
        blocks.append(Prose(text=text, tone="warning"))
    blocks += [Prose(text=problem, tone="warning") for problem in study.problems]
    examples = dataset_examples(study.folder)
    if examples is not None:
        blocks.append(examples)
    return Section(key="about", title="What this is", blocks=tuple(blocks))


def _sentence(study: StudyData) -> str:
    depths = units.listing([str(depth) for depth in study.depths])
    many = "depth" if len(study.depths) == 1 else "depths"
    runs = units.plural(len(study.runs), "training run")
    text = f"A scaling study of {runs} of a diffusion transformer at {many} {depths}."
    datasets = sorted({str(setting(run, "data", "dataset")) for run in study.runs} - {"None"})
    if datasets == ["shapes"]:
        size = setting(study.runs[0], "data", "image_size")
        pixels = f" of {size} × {size} pixels" if size else ""
        text += (
            f" It is a real study of a small embedded problem: models that draw coloured shapes{pixels} from captions, "
            "trained on images from a seeded generator. Every number below was measured on these runs; none of them is "
            "about photographs or about models of another size."
        )
    elif datasets:
        text += f" Trained on {units.listing(sorted({_trained_on(run) for run in study.runs}))}."
    if len(study.compared) > 1:
        text += f" It compares the variants {units.listing(study.compared)}."
    kept = sorted({run.depth for run in study.runs if run.variant in study.holdout})
    if kept:
        many = "depth" if len(kept) == 1 else "depths"
        names = units.listing([str(depth) for depth in kept])
        text += f" The fit does not see {many} {names}: there its prediction is tested."
    return text


def _trained_on(run: RunInfo) -> str:
    """The data of a run in words."""
    kind, size = str(setting(run, "data", "dataset")), setting(run, "data", "image_size")
    if kind == "random":
        return "random numbers, which teach nothing and are there to measure speed"
    lines = [str(line).split() for line in cast("list[str]", setting(run, "data", "sizes") or [])]
    image = next((words[1] for words in lines if words[0] == "image"), "")
    texts = [words[1] for words in lines if words[0] == "text"]
    if kind not in ("store", "images") or not image or not texts:
        return kind
    name = PurePath(str(setting(run, "data", "path"))).name
    what = f"the store {name}:" if kind == "store" else f"the images of {name}, encoded while training:"
    return f"{what} latents by {image} at {size} pixels, and captions by {units.listing(texts)}"


def summary_section(study: StudyData) -> Section:
    """The main numbers and the verdict in plain words."""
    blocks: list[Block] = [Facts(items=main_facts(study)), verdict(study)]
    stopped = [run for run in study.runs if run.state in (State.FAILED, State.INTERRUPTED)]
    missing = [*(stopped_sentence(run) for run in stopped), *_missing(study)]
    if missing:
        blocks.append(Bullets(items=tuple(missing)))
    if study.fit is not None and study.fit.warnings:
        number = units.plural(len(study.fit.warnings), "warning")
        text = f"The fit carries {number}; they stand with the fit below and say how far to trust its numbers."
        blocks.append(Prose(text=text, tone="note"))
    return Section(key="summary", title="Summary", blocks=tuple(blocks))


def _missing(study: StudyData) -> list[str]:
    """What a whole study would have: runs that never started, scores that are not there."""
    sentences: list[str] = []
    if study.not_started:
        runs = units.plural(len(study.not_started), "run")
        sentences.append(f"Not started: {runs} of {len(study.planned)}, {units.listing(list(study.not_started))}.")
    done = [run.run for run in study.runs if run.state is State.DONE]
    unscored = [run for run in done if run not in last_scores(study)]
    if unscored and len(unscored) < len(done):
        sentences.append(f"Done, but without GenEval scores: {units.listing(unscored)}.")
    return sentences


def main_facts(study: StudyData) -> tuple[Fact, ...]:
    """The numbers that a reader in a hurry takes away; what was not measured is left out."""
    facts = [_runs_fact(study), _size_fact(study), _compute_fact(study), _loss_fact(study), _score_fact(study)]
    return tuple(fact for fact in (*facts, *_check_facts(study), _correlation_fact(study)) if fact is not None)


def _runs_fact(study: StudyData) -> Fact:
    done = sum(run.state is State.DONE for run in study.runs)
    others = [
        f"{number} {state.value}"
        for state in State
        if state is not State.DONE and (number := sum(run.state is state for run in study.runs))
    ]
    if study.not_started:
        others.append(f"{len(study.not_started)} not started")
    total = len(study.runs) + len(study.not_started)
    return Fact(label="Runs finished", value=done, text=f"{done} of {total}", note=", ".join(others))


def _size_fact(study: StudyData) -> Fact:
    sizes = sorted({run.parameters.backbone for run in study.runs})
    ends = [units.short(sizes[0])] if len(sizes) == 1 else [units.short(sizes[0]), units.short(sizes[-1])]
    depths = study.depths
    note = f"depth {depths[0]}" if len(depths) == 1 else f"depths {depths[0]} to {depths[-1]}"
    return Fact(label="Backbone params", value=sizes[-1], text=" – ".join(ends), note=note)


def _compute_fact(study: StudyData) -> Fact | None:
    spent = sum(run.flops for run in progress(study).values())
    if not spent:
        return None
    seconds = sum(run.wall_seconds for run in study.runs)
    note = f"{units.duration(seconds)} of training in all" if seconds else ""
    return Fact(label="Training FLOPs, all runs", value=spent, text=units.flops(spent), note=note)


def _loss_fact(study: StudyData) -> Fact | None:
    failed = {run.run for run in study.failed}
    losses = {run: loss for run, loss in study.final_losses().items() if run not in failed}
    if not losses:
        return None
    best = min(losses, key=lambda run: losses[run])
    note = f"{best}, {study.weights} weights"
    return Fact(label="Lowest final validation loss", value=losses[best], text=units.loss(losses[best]), note=note)


def _score_fact(study: StudyData) -> Fact | None:
    scores = last_scores(study)
    if not scores:
        return None
    best = max(scores, key=lambda run: scores[run][0])
    value, stderr = scores[best]
    note = f"± {units.percent(stderr)}, {best}"
    return Fact(label="Highest GenEval overall", value=value, text=units.percent(value), note=note)


def _check_facts(study: StudyData) -> list[Fact]:
    """One fact per held-out depth: what was predicted, what its runs measured."""
    checks = study.outcome.checks if study.outcome else ()
    facts: list[Fact] = []
    for depth in sorted({check.depth for check in checks})[:2]:
        own = [check for check in checks if check.depth == depth]
        first = own[0]
        facts.append(
            Fact(
                label=f"Depth {depth}: predicted → measured",
                value=first.measured,
                text=f"{units.loss(first.predicted)} → {', '.join(units.loss(check.measured) for check in own)}",
                note=f"{units.percent(first.level, 0)} interval {units.interval(first.interval, 4)}",
            )
        )
    return facts


def _correlation_fact(study: StudyData) -> Fact | None:
    joined = loss_and_score(study)
    if joined is None or joined.correlation is None or math.isnan(joined.correlation.spearman.value):
        return None
    rank = joined.correlation.spearman
    value, _, bounds = strength(rank).partition(" ")
    return Fact(label="Spearman, loss with GenEval", value=rank.value, text=value, note=bounds)
