"""WebDataset tars: what is read, where it begins, and what damage costs."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prx_scale.data.decode import decode
from prx_scale.data.lanes import order_of
from prx_scale.data.samples import RawSample, Skip, Skipped
from prx_scale.data.sources import Fields, Item, open_source
from prx_scale.data.sources.tarfiles import BLOCK, parse_header, split_name
from prx_scale.data.sources.tarindex import scan
from prx_scale.data.streaming import Share, StreamLoader
from prx_scale.errors import InputError
from tests.prx_scale.data.made import CC12M, jpeg, sample_files, write_shards, write_tar


def read_all(spec: str | list[str], fields: Fields | None = None) -> list[Item]:
    source = open_source(spec, fields)
    return [item for shard in range(len(source.shards)) for item in source.samples(shard)]


def good(items: list[Item]) -> list[RawSample]:
    return [item for item in items if isinstance(item, RawSample)]


def header_starts(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [member.offset for member in tar.getmembers()]


def bad(items: list[Item]) -> list[Skipped]:
    return [item for item in items if isinstance(item, Skipped)]


def test_every_sample_of_every_shard_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 2])
    source = open_source(f"{tmp_path}/{{0000..0001}}.tar")
    assert source.shards == ("0000.tar", "0001.tar") and source.counts().tolist() == [3, 2]
    samples = good(list(source.samples(0)) + list(source.samples(1)))
    assert [each.key for each in samples] == [
        "0000.tar/0-0",
        "0000.tar/0-1",
        "0000.tar/0-2",
        "0001.tar/1-0",
        "0001.tar/1-1",
    ]
    last = samples[-1]
    assert (last.shard, last.place, last.size) == ("0001.tar", 1, (24, 32))
    assert last.captions == {"original": "1-1"} and last.image == jpeg(seed=101)


def test_any_samples_in_any_order(tmp_path: Path) -> None:
    write_shards(tmp_path, [5, 4])
    source = open_source(str(tmp_path))
    wanted = [(1, 3), (0, 0), (0, 4), (1, 3), (1, 0)]
    keys = [item.key for item in source.fetch(wanted)]
    assert keys == ["0001.tar/1-3", "0000.tar/0-0", "0000.tar/0-4", "0001.tar/1-3", "0001.tar/1-0"]
    assert [item.key for item in source.samples(0, start=3)] == ["0000.tar/0-3", "0000.tar/0-4"]
    assert [item.key for item in source.samples(0, start=1, stop=2)] == ["0000.tar/0-1"]


def test_captions_by_kind_scores_and_labels(tmp_path: Path) -> None:
    extra = {"llava": ["", "a long one"], "scores": {"aesthetic": 5.5, "clip": "0.31", "none": None}, "by": [1, 2]}
    write_tar(tmp_path / "a.tar", [*sample_files("0", 0, extra), ("0.cls", b"7\n")])
    fields = Fields(
        captions={"original": "txt", "synthetic": "json.llava", "second": "json.llava.1"},
        scores={"aesthetic": "json.scores.aesthetic", "clip": "json.scores.clip", "by": "json.by.1"},
    )
    (sample,) = good(read_all(str(tmp_path / "a.tar"), fields))
    assert sample.captions == {"original": "0", "synthetic": "a long one", "second": "a long one"}
    assert sample.scores == {"aesthetic": 5.5, "clip": 0.31, "by": 2.0} and sample.label == "7"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_in_every_dialect(tmp_path: Path, kind: int) -> None:
    # USTAR splits a name at a slash into two fields of 155 and 100 bytes; the others have headers of their own.
    name = "/".join(["folder" * 12, "x" * 90])
    name = name if kind == tarfile.USTAR_FORMAT else f"{name}-äöü-{'y' * 200}"
    write_tar(tmp_path / "a.tar", sample_files(name, 0) + sample_files("b", 1), kind)
    items = good(read_all(str(tmp_path / "a.tar")))
    assert [item.key for item in items] == [f"a.tar/{name}", "a.tar/b"]
    assert [item.captions["original"] for item in items] == [name, "b"]


def test_folders_and_links_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/l.txt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "nowhere"
            tar.addfile(info)
        for name, data in sample_files("d/0", 0) + sample_files("d/1", 1):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert [item.key for item in good(read_all(str(path)))] == ["a.tar/d/0", "a.tar/d/1"]


def test_hidden_files_of_a_mac_are_passed_over(tmp_path: Path) -> None:
    files = [(name, data) for file in sample_files("./0", 0) for name, data in ((f"./._{file[0][2:]}", b"mac"), file)]
    (item,) = good(read_all(str(write_tar(tmp_path / "a.tar", files))))
    assert (item.key, item.captions) == ("a.tar/./0", {"original": "./0"})


def test_concatenated_tars_are_read_to_their_end(tmp_path: Path) -> None:
    parts = write_shards(tmp_path / "parts", [2, 3])
    (tmp_path / "a.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(good(read_all(str(tmp_path / "a.tar")))) == 5


@given(cut=st.integers(0, 100_000))
def test_a_truncated_tar_gives_what_is_surely_whole(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    (whole,) = write_shards(folder, [6])
    data = whole.read_bytes()
    edges = scan(lambda start, stop: data[start:stop], len(data)).edges
    # Without the zeros at the end, which nobody misses.
    cut %= len(data.rstrip(b"\0"))
    (folder / "cut.tar").write_bytes(data[:cut])
    items = read_all([str(whole), str(folder / "cut.tar")])
    expected, found = good(items)[:6], good(items)[6:]
    assert [each.captions for each in found] == [each.captions for each in expected[: len(found)]]
    assert [each.image for each in found] == [each.image for each in expected[: len(found)]]
    # The last whole one is left out too, as another of its files may be what is missing.
    inside = int((edges[1:] <= cut).sum())
    assert len(found) in (inside - 1, inside) or len(found) == inside == 0
    assert [each.reason for each in bad(items)] == [Skip.CORRUPT_SHARD]


@pytest.mark.parametrize(
    "file, kept", [(0, [0, 3, 4]), (1, [0, 1, 3, 4]), (2, [0, 1, 4])], ids=["first file", "second", "last"]
)
def test_a_damaged_header_costs_the_samples_that_it_may_belong_to(file: int, kept: list[int], tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [5])
    data = bytearray(path.read_bytes())
    data[header_starts(path)[2 * 3 + file] + 130] ^= 0xFF
    path.write_bytes(data)
    items = read_all(str(path))
    assert [each.key for each in good(items)] == [f"0000.tar/0-{number}" for number in kept]
    assert [each.reason for each in bad(items)] == [Skip.CORRUPT_SHARD] and "checksum" in bad(items)[0].detail


def test_a_tar_without_an_end_mark_loses_its_last_sample(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [3])
    path.write_bytes(path.read_bytes()[: header_starts(path)[-1]])
    items = read_all(str(path))
    assert len(good(items)) == 2 and "no end mark" in bad(items)[0].detail


def test_what_is_wrong_with_a_sample_is_said(tmp_path: Path) -> None:
    files = [
        *sample_files("good", 0),
        ("no-image.txt", b"words"),
        ("empty-image.jpg", b""),
        ("empty-image.txt", b"words"),
        ("no-caption.jpg", jpeg()),
        ("blank-caption.jpg", jpeg()),
        ("blank-caption.txt", b" \n"),
        ("bad-json.jpg", jpeg()),
        ("bad-json.json", b"{"),
        ("good.png", jpeg()),
    ]
    items = read_all(str(write_tar(tmp_path / "a.tar", files)))
    assert [each.key for each in good(items)] == ["a.tar/good"]
    assert {each.key.removeprefix("a.tar/"): each.reason for each in bad(items)} == {
        "no-image": Skip.NO_IMAGE,
        "empty-image": Skip.NO_IMAGE,
        "no-caption": Skip.NO_CAPTION,
        "blank-caption": Skip.NO_CAPTION,
        "bad-json": Skip.CORRUPT_RECORD,
        "good": Skip.CORRUPT_RECORD,
    }
    without = read_all(str(tmp_path / "a.tar"), Fields(need_caption=False))
    assert [each.key.removeprefix("a.tar/") for each in good(without)] == ["good", "no-caption", "blank-caption"]


def test_files_that_are_no_tars(tmp_path: Path) -> None:
    (whole,) = write_shards(tmp_path, [2])
    (tmp_path / "a.tar").write_bytes(os.urandom(5000))
    (tmp_path / "b.tar").write_bytes(b"")
    items = read_all([str(whole), str(tmp_path / "a.tar"), str(tmp_path / "b.tar")])
    assert len(good(items)) == 2
    assert [(each.shard, each.reason) for each in bad(items)] == [
        ("a.tar", Skip.CORRUPT_SHARD),
        ("b.tar", Skip.CORRUPT_SHARD),
    ]
    with pytest.raises(
        InputError, match=r"a.tar: no sample can be read; a.tar: bytes 0 to 5000: a number in a header is none"
    ):
        open_source(str(tmp_path / "a.tar"))
    with pytest.raises(InputError, match=r"b.tar: no sample can be read; b.tar: is empty; is it what it is named as\?"):
        open_source(str(tmp_path / "b.tar"))


def test_a_field_that_is_nowhere_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_shards(tmp_path, [2])
    with pytest.raises(InputError, match=r"'json.captoin' \(for 'long'\); did you mean 'json.caption'"):
        open_source(str(tmp_path), Fields(captions={"long": "json.captoin", "original": "txt"}))
    with pytest.raises(InputError, match=r"none of the first 2 samples has 'json.captoin' \(for 'long'\); did you"):
        open_source(str(tmp_path), Fields(captions={"long": "json.captoin"}))
    with pytest.raises(InputError, match=r"has 'json.caption' \(for 'a'\), or not as .*scores are numbers"):
        open_source(str(tmp_path), Fields(scores={"a": "json.caption"}))


def test_a_damaged_shard_at_the_beginning_does_not_refuse_the_others(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(os.urandom(5000))
    write_shards(tmp_path / "more", [2])
    assert len(good(read_all([str(tmp_path / "0.tar"), str(tmp_path / "more")]))) == 2


def test_captions_of_classes_need_a_class(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", sample_files("0", 0))
    with pytest.raises(
        InputError, match=r"none of the first 1 samples has a class .*fields: json.caption.*Fields.label"
    ):
        open_source(str(tmp_path), classes=True)
    write_tar(tmp_path / "b.tar", [*sample_files("0", 0), ("0.cls", b"7")])
    assert open_source(str(tmp_path / "b.tar"), classes=True).counts().tolist() == [1]


def test_an_index_is_made_once_and_again_when_the_file_changes(tmp_path: Path, cache: Path) -> None:
    (path,) = write_shards(tmp_path, [3])
    assert open_source(str(path)).counts().tolist() == [3]
    made = {file: file.stat().st_mtime_ns for file in (cache / "tars").iterdir()}
    assert len(made) == 2
    assert open_source(str(path)).counts().tolist() == [3]
    assert {file: file.stat().st_mtime_ns for file in (cache / "tars").iterdir()} == made
    write_shards(tmp_path, [4])
    assert open_source(str(path)).counts().tolist() == [4]


def test_a_damaged_or_unwritable_cache_only_costs_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_shards(tmp_path, [3])
    open_source(str(path))
    for file in (cache / "tars").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    assert open_source(str(path)).counts().tolist() == [3]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PRX_SCALE_CACHE", str(tmp_path / "file" / "below"))
    assert open_source(str(path)).counts().tolist() == [3]


def test_a_shard_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [4])
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[: 3 * BLOCK])
    for each in (source, pickle.loads(pickle.dumps(source))):
        assert [(item.reason if isinstance(item, Skipped) else None) for item in each.fetch([(0, 0), (0, 3)])][1] == (
            Skip.CORRUPT_SHARD
        )


def test_a_source_can_be_handed_to_another_process(tmp_path: Path) -> None:
    write_shards(tmp_path, [3])
    source = open_source(str(tmp_path))
    first = list(source.samples(0))
    assert list(pickle.loads(pickle.dumps(source)).samples(0)) == first
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"same" if list(source.samples(0)) == first else b"not!")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 4) == b"same" and list(source.samples(0)) == first


def test_shards_in_memory(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in write_shards(tmp_path, [3, 2]):
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    for spec in ("memory://shards/{0000..0001}.tar", "memory://shards/*.tar"):
        source = open_source(spec)
        assert source.shards == ("0000.tar", "0001.tar") and source.counts().tolist() == [3, 2]
        assert [item.key for item in source.fetch([(1, 1), (0, 2), (0, 0), (0, 1)])] == [
            "0001.tar/1-1",
            "0000.tar/0-2",
            "0000.tar/0-0",
            "0000.tar/0-1",
        ]
        assert source.fetch([(1, 1)]) == open_source(str(tmp_path)).fetch([(1, 1)])


class WithRanges(SimpleHTTPRequestHandler):
    """Answers to ranges, as object stores do."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range")
        start, stop = 0, len(data)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(data)
        body = data[start:stop]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class WithoutRanges(SimpleHTTPRequestHandler):
    """Python's own: always the whole file."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(params=[WithRanges, WithoutRanges])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a folder with two shards of 3 and 2 samples."""
    write_shards(tmp_path, [3, 2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(request.param, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_shards_over_http(served: str, tmp_path: Path) -> None:
    source, local = open_source(f"{served}/{{0000..0001}}.tar"), open_source(str(tmp_path))
    wanted = [(1, 1), (0, 2), (0, 0), (0, 1), (1, 0)]
    assert source.counts().tolist() == [3, 2] and source.fetch(wanted) == local.fetch(wanted)
    assert source.fingerprint() == local.fingerprint()


def test_shards_over_http_in_worker_processes(served: str, tmp_path: Path) -> None:
    def batches(spec: str, workers: int) -> list[list[str]]:
        source = open_source(spec)
        stream = StreamLoader(
            source,
            order_of(source, 3),
            Share(batch=2),
            prepare=lambda sample: sample.captions["original"],
            collate=lambda slots: [slot.value for slot in slots],
            workers=workers,
        )
        return list(itertools.islice(stream, 6))

    assert batches(f"{served}/{{0000..0001}}.tar", 2) == batches(str(tmp_path), 0)


def test_a_url_that_is_not_there_is_a_damaged_shard(served: str) -> None:
    items = read_all(f"{served}/{{0000..0002}}.tar")
    assert len(good(items)) == 5 and [(each.shard, each.reason) for each in bad(items)] == [
        ("0002.tar", Skip.CORRUPT_SHARD)
    ]


def test_headers_are_those_of_tarfile(tmp_path: Path) -> None:
    # Sizes from 8 GiB up are in binary; checked against the standard library's own writing of them.
    for size in (0, 1, 8**11 - 1, 8**11, 2**40):
        info = tarfile.TarInfo("a/b.jpg")
        info.size = size
        header = parse_header(info.tobuf(tarfile.GNU_FORMAT))
        assert (header.name, header.size, header.kind) == ("a/b.jpg", size, tarfile.REGTYPE)


def test_a_sample_is_named_up_to_the_first_dot() -> None:
    assert split_name("a.b/c.seg.png") == ("a.b/c", "seg.png")
    assert split_name("c") == ("c", "") and split_name("a/.hidden") == ("a/", "hidden")


@pytest.mark.skipif(not CC12M.exists(), reason="the shard of photographs is not here")
def test_real_photographs() -> None:
    items = good(read_all(str(CC12M), Fields(captions={"original": "txt", "json": "json.caption"})))
    assert len(items) == 32 and all(item.captions["original"] == item.captions["json"] for item in items)
    for item in items:
        image = decode(item)
        assert not isinstance(image, Skipped) and image.shape[:2] == item.size


def test_sources_that_are_gone_leave_no_open_files(tmp_path: Path) -> None:
    write_shards(tmp_path, [2, 2])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        source = open_source(str(tmp_path))
        source.fetch([(0, 1), (1, 1)])
    del source
    assert len(os.listdir("/proc/self/fd")) == before
