"""The bridge to TorchTitan: every fragile name that it relies on is there and does what it is relied on for."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from parallel import titan
from parallel.host import HostModule
from parallel.shards import assign, local
from prx_scale.errors import InputError
from prx_scale.layout import micro_batch
from prx_scale.study import load
from prx_scale.training.titan_config import trainer_config


def test_device_is_the_host_where_there_is_no_accelerator() -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator, so nothing is bridged")
    from torchtitan.components import metrics
    from torchtitan.distributed import parallel_dims, utils

    # Names bound when those modules were imported: the bridge must have come first.
    assert metrics.device_type == parallel_dims.device_type == utils.device_type == "cpu"
    assert isinstance(metrics.device_module, HostModule)
    assert titan.device_name() == HostModule().get_device_name()


def test_host_answers_what_torchtitan_asks() -> None:
    host = HostModule()
    assert host.device_count() == 1
    assert type(host.current_device()) is int
    assert host.get_device_properties().total_memory > 2**30
    assert 0 < host.memory_stats()["reserved_bytes.all.peak"] < host.get_device_properties().total_memory


def test_a_lone_process_gets_a_world_of_one_and_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with titan.process_group_environment():
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "1")
        dist.init_process_group("gloo")
        try:
            # Trainer.train calls this after its first step; torch 2.13 does not have it by itself.
            dist.set_timeout(datetime.timedelta(seconds=7), None)  # type: ignore[attr-defined]
            dist.barrier()
        finally:
            dist.destroy_process_group()
    assert "RANK" not in os.environ


def test_a_launcher_s_world_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("MASTER_PORT", "1")
    with titan.process_group_environment():
        assert os.environ["MASTER_PORT"] == "1"
    assert os.environ["RANK"] == "3"


def test_only_the_loss_error_is_taken_for_divergence() -> None:
    assert titan.is_non_finite_loss(RuntimeError("Loss is not finite (global_avg_loss=nan) at step 3."))
    assert not titan.is_non_finite_loss(RuntimeError("out of memory"))


# The script ends without tearing Python down: gloo's thread may still hold the last collective's tensor, and giving
# that back to an interpreter that is ending aborts the process.
SHARDED = """
import os, torch, torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor
from parallel.shards import assign, local
dist.init_process_group("gloo")
mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
target = distribute_tensor(torch.zeros(5, 3), mesh, [Shard(0)])
value = torch.arange(15.0).reshape(5, 3)
assign(target, value)
assert local(target).shape[0] == (3 if dist.get_rank() == 0 else 2)
assert torch.equal(target.full_tensor(), value)
dist.destroy_process_group()
os._exit(0)
"""


@pytest.mark.slow
def test_each_process_takes_its_own_part_of_a_tensor(tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plain_tensor_is_taken_whole() -> None:
    target = torch.zeros(2, 2)
    assign(target, torch.ones(2, 2))
    assert torch.equal(local(target), torch.ones(2, 2))


STUDY = "[study]\nname = 's'\n[model]\ndepth = 1\npatch = 4\n[training]\nsteps = 100\nbatch = 12\n{}"


@pytest.mark.parametrize(
    ("parallel", "world", "expected"),
    [("", 1, 12), ("", 4, 3), ("[parallel]\nmicro_batch = 3\n", 2, 3), ("[parallel]\ndp_replicate = 2\n", 4, 3)],
)
def test_batch_is_dealt_out(parallel: str, world: int, expected: int, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.format(parallel))
    assert micro_batch(load(tmp_path).runs[0], world) == expected


@pytest.mark.parametrize(
    ("parallel", "world", "message"),
    [
        ("", 5, "12 images cannot be dealt out over 5 processes"),
        ("", 24, "12 images cannot be dealt out over 24 processes"),
        ("[parallel]\nmicro_batch = 4\n", 2, "in micro-batches of 4"),
        ("[parallel]\ndp_replicate = 3\n", 4, "dp_replicate 3 x dp_shard -1 does not give the 4 processes"),
        ("[parallel]\ndp_shard = 2\n", 4, "dp_shard 2 does not give the 4 processes"),
    ],
)
def test_what_does_not_fit_is_refused(parallel: str, world: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.format(parallel))
    with pytest.raises(InputError, match=message):
        trainer_config(load(tmp_path).runs[0], tmp_path, world)
