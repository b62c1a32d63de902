"""What the stages of a run come to, taken apart and all together."""

from __future__ import annotations

from pathlib import Path

from prx_scale.commands.sweep import plan_table
from prx_scale.models.build import model_shape, position_side
from prx_scale.models.sizes import parameters, training_flops
from prx_scale.planning import planned
from prx_scale.study import Study
from prx_scale.studyfit import _held_out  # pyright: ignore[reportPrivateUsage]
from prx_scale.turns import Turns
from slurm.plan import Action, Planned
from tests.prx_scale.test_stages import BASE, LADDER, ladder, load

HELD_OUT = '[[variant]]\nname = "large"\nmodel.depth = 2\n[fit]\nholdout = ["large"]\n'


def staged(tmp_path: Path) -> Study:
    return load(tmp_path, BASE + LADDER + HELD_OUT)


def test_the_parts_of_a_run_come_to_its_totals(tmp_path: Path) -> None:
    run = ladder(tmp_path)
    parts, totals = Turns(run).parts(), Turns(run).totals(160)
    assert [part.name for part in parts] == ["256", "512", "512, replaying 256", "1024"]
    assert sum(part.run.training.steps for part in parts) == 160
    replayed = parts[2].run
    assert (replayed.data.image_size, replayed.training.batch) == (256, 32), "its own batch, of the earlier size"
    images = [part.run.training.steps * part.run.training.batch for part in parts]
    assert sum(images) == totals.samples == 100 * 64 + 40 * 32 + 20 * 16
    flops = [training_flops(model_shape(part.run)) for part in parts]
    assert sum(count * each for count, each in zip(images, flops, strict=True)) == totals.flops


def test_every_part_has_the_model_of_the_run(tmp_path: Path) -> None:
    text = (BASE + LADDER).replace("position_grid = 64\n", "").replace("position_base = 16", 'positions = "learned"')
    run = load(tmp_path, text).runs[0]
    for part in Turns(run).parts():
        assert position_side(part.run) == position_side(run) == 64
        assert parameters(planned(part.run).shape) == parameters(model_shape(run))


def test_a_run_without_stages_is_one_part_as_it_is(tmp_path: Path) -> None:
    run = load(tmp_path, BASE + "steps = 17").runs[0]
    (part,) = Turns(run).parts()
    assert (part.name, part.run) == ("", run)


def test_held_out_runs_are_predicted_at_what_they_will_have_seen(tmp_path: Path) -> None:
    study = staged(tmp_path)
    large = next(run for run in study.runs if run.variant == "large")
    (forecast,) = _held_out(study)
    totals = Turns(large).totals(160)
    assert (forecast.data, forecast.flops, forecast.step) == (totals.samples, float(totals.flops), 160)
    assert forecast.data != 160 * large.training.batch


def test_a_sweep_lists_images_and_flops_over_all_stages(tmp_path: Path) -> None:
    run = ladder(tmp_path)
    table = plan_table([Planned(run=run, folder=tmp_path, action=Action.START)], width=140)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    totals = Turns(run).totals(160)
    assert cells["images"] == ["8000"] and totals.samples == 8000
    assert cells["FLOPs"] != [str(8000 * training_flops(model_shape(run)))]
