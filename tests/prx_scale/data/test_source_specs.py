"""What names a dataset, and what is said of a name that cannot be meant."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.data.sources import parse_pairs
from prx_scale.data.sources.fields import Fields, as_number, as_text, captions_of, lookup, size_of
from prx_scale.data.sources.specs import braces, resolve, shard_names
from prx_scale.errors import InputError
from tests.prx_scale.data.made import jpeg, write_shards


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=3))
def test_ranges_count_as_a_shell_does(ranges: list[tuple[int, int]]) -> None:
    text = "/".join(f"a{{{low:04d}..{low + more:04d}}}" for low, more in ranges)
    each = [[f"a{number:04d}" for number in range(low, low + more + 1)] for low, more in ranges]
    assert braces(text) == ["/".join(parts) for parts in itertools.product(*each)]


def test_braces() -> None:
    assert braces("x{8..11}") == ["x8", "x9", "x10", "x11"]
    assert braces("x{08..11}") == ["x08", "x09", "x10", "x11"]
    assert braces("{a,b/c,}.tar") == ["a.tar", "b/c.tar", ".tar"]
    assert braces("{a,b}{0..1}") == ["a0", "a1", "b0", "b1"] and braces("plain") == ["plain"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("{3..1}.tar", "runs backwards"),
        ("{one}.tar", r"'\{one\}' is neither a range such as \{0000..0099\} nor a list"),
        ("{0..9.tar", "without a partner"),
        ("0..9}.tar", "without a partner"),
        ("{a,b{0..1}}", "braces in braces"),
        ("{0..99999999}.tar", "more than 10,000,000 files"),
        ("{0..9999}{0..9999}{0..9}.tar", "more than 10,000,000 files"),
    ],
)
def test_braces_that_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        braces(text)


def test_formats_are_found_by_what_is_there(tmp_path: Path) -> None:
    write_shards(tmp_path / "tars", [1, 1])
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.jpg").write_bytes(jpeg())
    assert resolve(str(tmp_path / "tars")).format == "tar" and len(resolve(str(tmp_path / "tars")).paths) == 2
    assert resolve(str(tmp_path / "images")).format == "folder"
    assert resolve(f"{tmp_path}/tars/*.tar").paths == resolve(f"file://{tmp_path}/tars/{{0000..0001}}.tar").paths


def test_names_with_the_signs_of_patterns_are_names(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "a[0]{b,c}", [1])
    assert resolve(str(path)).paths == (str(path),) and resolve(str(path.parent)).format == "tar"


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    first, second = write_shards(tmp_path, [1, 1])
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.tar.gz").write_bytes(b"")
    (tmp_path / "a.zip").write_bytes(b"")
    for spec, said in {
        str(tmp_path / "0009.tar"): "no such file or folder; a dataset is .tar files",
        f"{tmp_path}/{{0000..0003}}.tar": "0002.tar: no such file",
        f"{tmp_path}/*.tarr": "nothing matches the pattern",
        str(tmp_path / "a.zip"): "not a known format; a dataset is .tar files",
        str(tmp_path / "a.tar.gz"): "unpack it to .tar",
        "memory://nothing/*.tar": "nothing matches the pattern",
        "nosuch://a.tar": "Protocol not known: nosuch",
        " ": "no data is named",
    }.items():
        with pytest.raises(InputError, match=said.replace("*", r"\*")):
            resolve(spec)
    with pytest.raises(InputError, match=r"one dataset has one format, these differ: .*0000.tar .tar., .*a.parquet"):
        resolve([str(first), str(tmp_path / "a.parquet")])
    with pytest.raises(InputError, match=r"0000.tar: named twice"):
        resolve([str(first), str(second), str(first)])


def test_shards_are_named_by_what_differs() -> None:
    assert shard_names(["/data/a/0.tar"]) == ("0.tar",)
    assert shard_names(["/data/a/0.tar", "/data/b/0.tar"]) == ("a/0.tar", "b/0.tar")
    assert shard_names(["s3://x/a/0.tar", "s3://x/a/1.tar"]) == ("0.tar", "1.tar")
    assert shard_names(["/data/0.tar", "/data/0.tar.d/0.tar"]) == ("0.tar", "0.tar.d/0.tar")


def test_pairs_of_a_command_line() -> None:
    assert parse_pairs(["long=json.llava", " short = txt "], "--captions") == {"long": "json.llava", "short": "txt"}
    for pair in ("long", "=txt", "long="):
        with pytest.raises(InputError, match=f"--captions: '{pair}' is not KIND=FIELD"):
            parse_pairs([pair], "--captions")
    with pytest.raises(InputError, match="'a' is named twice: b and c"):
        parse_pairs(["a=b", "a=c"], "--captions")


def test_fields_are_found_at_any_depth() -> None:
    record = {"seg.png": b"x", "json": {"a.b": 1, "a": {"b": 2, "c": [{"d": 3}]}}, "txt": " words "}
    assert lookup(record, "seg.png") == b"x" and lookup(record, "json.a.b") == 1
    assert lookup(record, "json.a.c.0.d") == 3 and lookup(record, "json.a.c.1.d") is None
    assert lookup(record, "nowhere") is None and lookup(record, "txt.0") is None
    assert captions_of(record, Fields()) == {"original": "words"}
    assert captions_of(record, Fields(captions={"a": "json.a.c", "b": "json.a.b"})) == {"b": "1"}


def test_values_of_the_wrong_type_are_no_values() -> None:
    assert [as_text(value) for value in (None, True, {}, [], ["", "b"], b"\xff\xfe")] == [
        "",
        "",
        "",
        "",
        "b",
        "\ufffd\ufffd",
    ]
    assert [as_number(value) for value in ("4", b"5", None, "x", float("nan"), "inf", [1], 10**400)] == [
        4.0,
        5.0,
        *[None] * 6,
    ]
    assert size_of({"height": 0, "width": 4}, Fields()) is None and size_of({"height": "3", "width": 4}, Fields()) == (
        3,
        4,
    )
