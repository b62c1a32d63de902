"""``prx-scale rank`` on written tables: its table, its JSON and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro

from prx_scale.commands.rank import Rank
from prx_scale.errors import InputError

TABLE = """formulation,sampler,weights,clip,fid
rf,5,ema,0.24,50.0
rf,50,ema,0.25,45.0
edm,5,ema,0.22,90.0
edm,50,ema,0.25,40.0
eps,5,ema,0.23,60.0
eps,50,ema,0.20,48.0
rf,5,raw,0.23,55.0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(TABLE)
    return path


def run(path: Path, *arguments: str) -> int:
    common = ["--variant", "formulation", "--setting", "sampler", "--setting", "weights"]
    return tyro.cli(Rank, args=[str(path), *common, "--metrics", "clip:max,fid:min", *arguments]).run()


def test_the_table_is_printed_best_first(table, capsys):
    assert run(table, "--where", "weights=ema") == 0
    lines = capsys.readouterr().out.splitlines()
    body = [line.split()[:2] for line in lines if line.startswith(("rf", "edm", "eps"))]
    assert body == [["rf", "1.50"], ["edm", "2.00"], ["eps", "2.50"]]
    assert any("2 settings" in line for line in lines)


def test_json_holds_the_fronts_and_says_who_lacks_a_setting(table, capsys):
    assert run(table, "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    by_name = {each["variant"]: each for each in document["standings"]}
    assert by_name["rf"]["fronts"] == {
        "sampler=5, weights=ema": 1,
        "sampler=5, weights=raw": 1,
        "sampler=50, weights=ema": 2,
    }
    assert by_name["edm"]["settings"] == 2 and document["directions"] == {"clip": "max", "fid": "min"}
    assert run(table) == 0
    assert "[incomplete] edm, eps lack settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--variant", "formulaton"], "no column 'formulaton'; did you mean 'formulation'"),
        (["--metrics", "clip"], "expected METRIC:max or METRIC:min"),
        (["--metrics", "clip:max"], "'clip' is there twice"),
        (["--metrics", "fdi:min"], "no column 'fdi'; did you mean 'fid'"),
        (["--metrics", "weights:min"], "column 'weights' holds 'ema'"),
        (["--setting", "absent"], "no column 'absent'"),
    ],
)
def test_refusals_are_input_errors(table, arguments, words):
    with pytest.raises(InputError, match=words):
        run(table, *arguments)


def test_a_variant_twice_in_a_setting_is_refused(table):
    with pytest.raises(InputError, match="variant 'rf' is in setting 'sampler=5' twice"):
        tyro.cli(
            Rank, args=[str(table), "--variant", "formulation", "--setting", "sampler", "--metrics", "fid:min"]
        ).run()
