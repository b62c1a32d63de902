"""Logs that grow, are cut, replaced, and come late; which logs a run has."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from prx_scale.locks import only_one
from slurm.follow import Follower, Heading
from slurm.ledger import Executor, JobRecord, Kind
from slurm.logs import chosen_logs, folder_logs, job_logs, tail

ROOT = Path(__file__).parents[2]


def read(follower: Follower, *files: Path) -> str:
    return "".join(text for _, text in follower.new(files))


def test_the_last_lines_and_then_what_is_added(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("".join(f"{number}\n" for number in range(100_000)))
    follower = Follower(3)
    assert read(follower, path) == "99997\n99998\n99999\n"
    assert read(follower, path) == ""
    with path.open("a") as file:
        file.write("half")
        file.flush()
        assert read(follower, path) == ""
        file.write(" and half\nnext\nrest")
    assert read(follower, path) == "half and half\nnext\n"
    assert list(follower.rest()) == [(path, "rest\n")]


def test_how_many_lines_of_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one\ntwo\nthree")
    assert read(Follower(0), path) == ""
    follower = Follower(2)
    assert read(follower, path) == "two\n" and list(follower.rest()) == [(path, "three\n")]
    assert read(Follower(50), path) == "one\ntwo\n"
    path.write_text("")
    assert read(Follower(5), path) == ""


def test_files_that_come_late_are_cut_or_replaced_are_read_from_their_beginning(tmp_path: Path) -> None:
    first, late = tmp_path / "a", tmp_path / "b"
    first.write_text("1\n2\n3\n")
    follower = Follower(1)
    assert read(follower, first, late) == "3\n"
    late.write_text("x\ny\n")
    assert read(follower, first, late) == "x\ny\n"
    first.write_text("new\n")
    assert read(follower, first, late) == "new\n"
    other = tmp_path / "other"
    other.write_text("another file\nof the name\n")
    other.replace(first)
    assert read(follower, first, late) == "another file\nof the name\n"


def test_a_heading_where_the_file_changes(tmp_path: Path) -> None:
    heading = Heading(tmp_path)
    assert heading.before(tmp_path / "a") == ""
    heading.needed = True
    assert heading.before(tmp_path / "a") == "==> a <==\n"
    assert heading.before(tmp_path / "a") == ""
    assert heading.before(tmp_path / "b") == "\n==> b <==\n"


def test_logs_of_a_job_and_of_a_run_without_one(tmp_path: Path) -> None:
    job = JobRecord(
        job="12_3", kind=Kind.TRAIN, executor=Executor.SLURM, run="r", logs="jobs/x/12_3", nodes=2, ntasks_per_node=2
    )
    folder, run = tmp_path / "jobs" / "x", tmp_path / "runs" / "r"
    for path in (folder, run):
        path.mkdir(parents=True)
    for name in ("12_3_0_log.out", "12_3_0_log.err", "12_3_3_log.err", "12_3_7_log.err", "12_30_0_log.out"):
        (folder / name).touch()
    assert [file.path.name for file in job_logs(tmp_path, job)] == [
        "12_3_0_log.out",
        "12_3_0_log.err",
        "12_3_3_log.err",
    ]
    assert [file.rank for file in chosen_logs(tmp_path, "r", job, [3])] == [3]
    for name in ("console.log", "rank0.log", "rank1.log", "rank10.log"):
        (run / name).touch()
    names = [file.path.name for file in folder_logs(run)]
    assert names == ["console.log", "rank0.log", "rank1.log", "rank10.log"]
    assert [file.path.name for file in chosen_logs(tmp_path, "r", None, [0])] == ["console.log"]
    assert [file.path.name for file in chosen_logs(tmp_path, "r", None, [1])] == ["rank1.log"]


def test_the_end_of_a_log_begins_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert tail(path) == ""
    path.write_text("".join(f"line {number:05d}\n" for number in range(1000)))
    assert tail(path, 105) == "".join(f"line {number:05d}\n" for number in range(991, 1000))
    assert tail(path, 1 << 20).startswith("line 00000\n")


def test_following_ends_when_the_process_has_ended_and_all_is_printed(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "d1-s0-00000000"
    run.mkdir(parents=True)
    console = run / "console.log"
    with only_one(run):
        console.write_text("first\n")
        command = (sys.executable, "-m", "prx_scale", "logs", str(run), "--follow", "--lines", "5")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as follower:
            assert follower.stdout is not None and follower.stdout.readline() == "first\n"
            with console.open("a") as file:
                file.write("second\nlast")
                file.flush()
                assert follower.stdout.readline() == "second\n"
                time.sleep(0.1)
                assert follower.poll() is None
            follower.terminate()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert (done.returncode, done.stdout) == (0, "first\nsecond\nlast\n")
