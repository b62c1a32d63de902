"""GenEval prompts about shapes, in GenEval's own metadata format and in the wording of the training captions."""

import numpy as np

from prx_scale.data.shapes.captions import short_caption
from prx_scale.data.shapes.scenes import TASKS, Scene, draw
from prx_scale.evaluation.geneval import Item, Prompt, Rules

SHAPES_RULES = Rules(threshold=0.7, counting_threshold=0.7)
"""Thresholds for the shapes detector: a score of 0.7 is a shape with about a quarter of its pixels wrong."""


def shapes_prompts(per_task: int = 16, seed: int = 0) -> list[Prompt]:
    """Draw prompts of all six tasks, grouped by task in GenEval's order, never one twice.

    Args:
        per_task: prompts per task, or all there are if fewer exist (5 of single_object, 15 of counting).
        seed: seed of the draw.
    """
    prompts: dict[str, dict[str, Prompt]] = {task: {} for task in TASKS}
    # 8,192 scenes hold every one of the 5 + 15 + 20 + 30 + 80 short captions of five tasks, and most of color_attr.
    for scene in draw(seed, np.arange(8192), "heldout").scenes():
        prompt = scene_prompt(scene)
        prompts[scene.task].setdefault(prompt.prompt, prompt)
    return [prompt for task in TASKS for prompt in list(prompts[task].values())[:per_task]]


def scene_prompt(scene: Scene) -> Prompt:
    """The prompt that a scene's short caption makes, with what GenEval would require of it."""
    caption = short_caption(scene)
    if scene.task == "counting":
        name, count = scene.objects[0].shape, len(scene.objects)
        exclude = (Item(name=name, count=count + 1),)
        return Prompt(tag=scene.task, prompt=caption, include=(Item(name=name, count=count),), exclude=exclude)
    if scene.task == "position":
        subject, target = scene.objects
        # GenEval names the reference object first in `include` and second in the sentence.
        items = (Item(name=target.shape, count=1), Item(name=subject.shape, count=1, relation=scene.relation))
        return Prompt(tag=scene.task, prompt=caption, include=items)
    colored = scene.task in ("colors", "color_attr")
    items = tuple(Item(name=o.shape, count=1, color=o.color if colored else None) for o in scene.objects)
    return Prompt(tag=scene.task, prompt=caption, include=items)
