"""Random kills and requeues of a training job, one after another; then no validation row may be lost or doubled.

    python -m tests.cluster.soak --times 20 --seed 1

A run of two processes on two nodes is disturbed at random moments in one of six ways: requeued, a process killed with
SIGKILL, signalled as before a time limit, preempted, its node's slurmd killed, or the node with its processes. The
record is then compared, byte for byte, with that of the same run in one go.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.cluster import Cluster
from tests.cluster.sweeps import Sweep, write_study

STEPS, EVERY = 8000, 100
PATIENCE_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Disturber:
    """Does something to the job of a study's single run."""

    sweep: Sweep
    chance: random.Random

    @property
    def job(self) -> str:
        """Its id."""
        return self.sweep.jobs()[-1].job

    def requeue(self) -> None:
        """As an operator does."""
        self.sweep.cluster.run("scontrol", "requeue", self.job)

    def kill_process(self) -> None:
        """One of its processes, without a warning."""
        own = [process for process in psutil.process_iter(["cmdline"]) if self._is_ours(process.info["cmdline"] or [])]
        self.chance.choice(own).kill()

    def _is_ours(self, words: list[str]) -> bool:
        runs = "submitit.core._submit" in words and "python" in words[0]
        return runs and words[-1].startswith(str(self.sweep.folder))

    def signal(self) -> None:
        """As ahead of a time limit."""
        self.sweep.cluster.run("scancel", "--signal=USR2", self.job)

    def preempt(self) -> None:
        """By a job of higher priority that takes everything."""
        everything = ("--partition=urgent", "--nodes=2", "--ntasks-per-node=4", "--exclusive")
        self.sweep.cluster.run("sbatch", *everything, "--output=/dev/null", "--time=1", "--wrap=sleep 3")

    def cut_off_node(self) -> None:
        """Its slurmd dies; the processes on it go on until they learn of it."""
        self._lose_node(jobs=False)

    def kill_node(self) -> None:
        """The node is gone with all that ran on it."""
        self._lose_node(jobs=True)

    def _lose_node(self, *, jobs: bool) -> None:
        node = self.chance.choice(("n1", "n2"))
        self.sweep.cluster.kill_node(node, jobs=jobs)
        deadline = time.monotonic() + PATIENCE_S
        while self.sweep.cluster.node_state(node).startswith(("alloc", "mix", "idle")) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.sweep.cluster.start_node(node)


def disturb(sweep: Sweep, times: int, chance: random.Random) -> Counter[str]:
    """Disturb a running job so many times, each after it has trained for a random while.

    Args:
        sweep: its study, launched.
        times: how often.
        chance: draws moments and ways.

    Returns:
        How often each way was taken.
    """
    disturber = Disturber(sweep=sweep, chance=chance)
    ways: dict[str, Callable[[], None]] = {
        "requeue": disturber.requeue,
        "kill -9 of a process": disturber.kill_process,
        "USR2": disturber.signal,
        "preemption": disturber.preempt,
        "slurmd killed": disturber.cut_off_node,
        "node killed": disturber.kill_node,
    }
    done: Counter[str] = Counter()
    for number in range(times):
        starts = _starts(sweep)
        aim = sweep.step() + chance.randrange(20, 250)
        sweep.wait(lambda aim=aim: sweep.step() >= aim or _ended(sweep), PATIENCE_S, f"step {aim}")
        if _ended(sweep):
            break
        way = chance.choice(list(ways))
        print(f"{number + 1} of {times}: at step {sweep.step()} {way}", flush=True)
        ways[way]()
        done[way] += 1
        sweep.wait(lambda starts=starts: _starts(sweep) > starts or _ended(sweep), PATIENCE_S, "another start")
    return done


def _starts(sweep: Sweep) -> int:
    return sum(row["event"] == "start" for row in sweep.rows("attempts"))


def _ended(sweep: Sweep) -> bool:
    return sweep.info().get("state") in ("done", "failed")


def main(words: list[str]) -> int:
    """Start a cluster, train once in one go and once disturbed, compare; 0 where the records are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="prx-soak-") as studies:
        cluster = Cluster.start(Path(tempfile.mkdtemp(prefix="prx-cluster-")))
        try:
            return _soak(cluster, Path(studies), options.times, options.seed)
        finally:
            cluster.stop()
            shutil.rmtree(cluster.folder, ignore_errors=True)


def _soak(cluster: Cluster, folder: Path, times: int, seed: int) -> int:
    slurm = "then = []\nmax_restarts = 1000\nmax_fruitless = 1000\n"
    sizes = {"steps": STEPS, "every": EVERY, "nodes": 2, "minutes": 60}
    whole = Sweep(cluster=cluster, folder=write_study(folder / "whole", slurm=slurm, **sizes))
    whole.launch()
    whole.wait_done(1200)
    broken = Sweep(cluster=cluster, folder=write_study(folder / "broken", slurm=slurm, **sizes))
    broken.launch()
    began = time.monotonic()
    ways = disturb(broken, times, random.Random(seed))
    broken.wait_done(1200)
    same = [sweep.run_folder() / "validation.jsonl" for sweep in (whole, broken)]
    equal = same[0].read_bytes() == same[1].read_bytes()
    steps = Counter((row["step"], row["weights"]) for row in broken.rows("validation"))
    expected = {(step, weights) for step in range(EVERY, STEPS + 1, EVERY) for weights in ("raw", "ema")}
    lost, doubled = len(expected - set(steps)), sum(count - 1 for count in steps.values())
    taken = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    print(f"{sum(ways.values())} disturbances ({taken}), {_starts(broken)} starts in {time.monotonic() - began:.0f} s")
    print(f"validation rows lost {lost}, doubled {doubled}; bytes {'the same' if equal else 'DIFFERENT'}")
    return 0 if equal and not lost and not doubled else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
