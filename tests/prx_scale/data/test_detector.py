"""The shapes detector: exact on rendered scenes, not fooled, sensible on damaged images."""

from dataclasses import replace

import numpy as np
import pytest

from prx_scale.data.shapes.detector import detect
from prx_scale.data.shapes.render import BACKGROUND, PALETTE, STENCILS, render
from prx_scale.data.shapes.scenes import COLORS, RELATIONS, SHAPES, draw
from prx_scale.evaluation.geneval import Detection, judge
from prx_scale.evaluation.shapes_prompts import SHAPES_RULES, scene_prompt


def found(detections: list[Detection]) -> list[tuple[str, str | None, float, float]]:
    return sorted((d.name, d.color, d.box[0], d.box[1]) for d in detections)


@pytest.mark.parametrize(("size", "start"), [(16, start) for start in range(0, 2500, 500)] + [(32, 0)])
def test_every_rendered_object_is_found_exactly(size: int, start: int):
    scenes = draw(11, np.arange(start, start + 500))
    for scene, detections in zip(scenes.scenes(), detect(render(scenes, size)), strict=True):
        truth = sorted((o.shape, o.color, o.left, o.top) for o in scene.objects)
        assert found(detections) == truth
        assert all(abs(d.score - 1) < 1e-6 for d in detections)


def test_the_caption_of_an_image_is_judged_correct_and_no_altered_one_is():
    scenes = draw(12, np.arange(1000))
    altered = 0
    for scene, detections in zip(scenes.scenes(), detect(render(scenes)), strict=True):
        assert judge(scene_prompt(scene), detections, SHAPES_RULES).correct
        first, present = scene.objects[0], {o.shape for o in scene.objects}
        others = [name for name in SHAPES if name not in present]
        wrong = [replace(scene, objects=(replace(first, shape=name), *scene.objects[1:])) for name in others]
        if scene.task in ("colors", "color_attr"):
            wrong += [
                replace(scene, objects=(replace(first, color=c), *scene.objects[1:]))
                for c in COLORS
                if c != first.color
            ]
        if scene.task == "position":
            opposite = RELATIONS[RELATIONS.index(scene.relation or "") ^ 1]
            wrong.append(replace(scene, relation=opposite))
        if scene.task == "counting":
            wrong = [replace(scene, objects=scene.objects[:-1])] if len(scene.objects) > 2 else []
            wrong += [replace(scene, objects=(*scene.objects, first))] if len(scene.objects) < 4 else []
        if scene.task == "color_attr":
            a, b = scene.objects
            swapped = (replace(a, color=b.color), replace(b, color=a.color))
            wrong.append(replace(scene, objects=swapped))
        for other in wrong:
            altered += 1
            assert not judge(scene_prompt(other), detections, SHAPES_RULES).correct, (scene, other)
    assert altered > 3000


def test_mild_noise_changes_nothing():
    scenes = draw(13, np.arange(500))
    noise = np.random.default_rng(0).normal(0, 0.2, (500, 3, 16, 16)).astype(np.float32)
    clean, noisy = detect(render(scenes)), detect(render(scenes) + noise)
    assert sum(found(a) != found(b) for a, b in zip(clean, noisy, strict=True)) <= 10


def test_touching_objects_are_found_apart():
    image = np.full((1, 3, 16, 16), BACKGROUND, dtype=np.float32)
    for left, name in ((0, "ring"), (4, "square"), (8, "cross")):
        image[0, :, 4:8, left : left + 4][:, STENCILS[SHAPES.index(name)]] = PALETTE[left // 8, :, None]
    want = sorted(((n, COLORS[x // 8], x, 4) for n, x in (("ring", 0), ("square", 4), ("cross", 8))))
    assert found(detect(image)[0]) == want


def test_blank_and_pure_noise_images_hold_nothing_much():
    assert detect(np.full((2, 3, 16, 16), BACKGROUND, dtype=np.float32)) == [[], []]
    assert detect(np.full((1, 3, 16, 16), np.nan, dtype=np.float32)) == [[]]
    noise = np.random.default_rng(1).normal(0, 1, (200, 3, 16, 16)).astype(np.float32)
    kept = [d for group in detect(noise) for d in group if d.score > SHAPES_RULES.threshold]
    assert len(kept) == 0


def test_damage_lowers_the_score():
    scenes = draw(14, np.arange(300))
    images = render(scenes)
    rng = np.random.default_rng(2)
    means: list[float] = []
    for share in (0.0, 0.05, 0.1, 0.2):
        damaged = np.where(rng.random((300, 1, 16, 16)) < share, BACKGROUND, images).astype(np.float32)
        means.append(float(np.mean([sum(d.score for d in group) for group in detect(damaged)])))
    assert means == sorted(means, reverse=True) and means[-1] < 0.85 * means[0]


def test_a_two_coloured_object_scores_by_its_larger_part():
    scenes = draw(0, np.arange(200))
    row = next(i for i, s in enumerate(scenes.scenes()) if s.task == "colors" and s.objects[0].shape == "square")
    item = scenes.scenes()[row].objects[0]
    image = render(scenes)[row : row + 1]
    window = image[0, :, item.top : item.top + item.size // 4, item.left : item.left + item.size]
    window[:] = -window
    (detection,) = detect(image)[0] if item.color != "white" else [None]
    assert detection is None or (detection.color == item.color and detection.score < 1)
