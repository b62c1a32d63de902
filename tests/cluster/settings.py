"""The configuration files of the test cluster, as text."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
MAIN = "main"
URGENT = "urgent"
CPUS = 4
MEMORY_MB = 8000
GRACE_S = 20
ACCOUNT = "lab"
# By default slurmd looks for control groups at its start, and ends where there are none, though nothing here uses them.
CGROUP_CONF = "CgroupPlugin=cgroup/v1\n"
MARK = "# A test cluster of prx-scale; its folder may be removed when it is stopped."


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The TCP ports of one cluster, all on 127.0.0.1."""

    controller: int
    accounting: int
    nodes: tuple[int, ...]


def free_ports() -> Ports:
    """Ports that nobody listens on, below the range that outgoing connections are given."""
    found: list[int] = []
    while len(found) < 2 + len(NODES):
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return Ports(controller=found[0], accounting=found[1], nodes=tuple(found[2:]))


def slurm_conf(folder: Path, name: str, ports: Ports) -> str:
    """slurm.conf of a cluster whose files are in `folder`.

    Args:
        folder: where logs, spool, sockets and process ids are.
        name: the cluster's name, in accounting too.
        ports: where its daemons listen.

    Returns:
        The text of the file.
    """
    auth = f"socket={folder}/munge.socket"
    nodes = "\n".join(
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory={MEMORY_MB}"
        for node, port in zip(NODES, ports.nodes, strict=True)
    )
    return f"""\
{MARK}
ClusterName={name}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports.controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired; less than 5 is taken for the default, 120.
AuthInfo={auth},cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MailProg=/bin/true

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/logs/slurmctld.log
SlurmdLogFile={folder}/logs/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# The nodes have more processors than the machine.
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MaxArraySize=8
KillWait=10
SlurmdTimeout=8
# With these two, a node whose slurmd was killed is down after 17 s; with MessageTimeout's default of 10 s, after 27.
MessageTimeout=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=1

PreemptType=preempt/partition_prio
PreemptMode=REQUEUE

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports.accounting}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=limits
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5

{nodes}
PartitionName={MAIN} Nodes={",".join(NODES)} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE_S} State=UP
PartitionName={URGENT} Nodes={",".join(NODES)} PriorityTier=10 PreemptMode=OFF State=UP
"""


def slurmdbd_conf(folder: Path, ports: Ports) -> str:
    """slurmdbd.conf: the accounting daemon, its database behind the socket that MYSQL_UNIX_PORT names."""
    return f"""\
{MARK}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports.accounting}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/logs/slurmdbd.log
DebugLevel=verbose
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def database_socket(folder: Path) -> Path:
    """Where the database listens: in its own folder, which only root can enter."""
    return folder / "database" / "socket"


def mariadb_words(folder: Path) -> tuple[str, ...]:
    """The command of a small MariaDB that listens on a socket in `folder` and nowhere else."""
    return (
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={folder}/database",
        f"--socket={database_socket(folder)}",
        f"--pid-file={folder}/mariadb.pid",
        "--skip-networking",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--innodb-lock-wait-timeout=900",
        # What a power cut would lose is a test's.
        "--innodb-flush-log-at-trx-commit=0",
        "--skip-innodb-doublewrite",
    )
