"""What the test cluster needs of the system. `python -m tests.cluster.packages` installs it on Debian.

Needs no other package, so that it runs before there is an environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# The programs that are looked for, and Debian's packages that have them. MariaDB's is that without a service.
PROGRAMS = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "srun": "slurm-wlm",
    "sacct": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}
# Asked by Debian's packages before they start what they bring; 101 forbids it.
POLICY = Path("/usr/sbin/policy-rc.d")


def search_path() -> str:
    """PATH with the folders of daemons, which not every user has in it."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def missing() -> list[str]:
    """Debian's packages that are not installed."""
    absent = {package for program, package in PROGRAMS.items() if shutil.which(program, path=search_path()) is None}
    return sorted(absent)


def available() -> str | None:
    """Why no test cluster can run here, or None where one can."""
    packages = missing()
    if packages:
        return f"no SLURM here: `make test-slurm` installs it as root on Debian ({' '.join(packages)})"
    return None if os.geteuid() == 0 else "the daemons of the test cluster start as root: run `make test-slurm` as root"


def install(packages: list[str]) -> None:
    """Installs packages with apt, and starts none of their services.

    Raises:
        SystemExit: that takes root on Debian, or apt failed; the message says how to go on.
    """
    words = ["apt-get", "-qq", "-y", "install", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"missing: {' '.join(packages)}; installing them takes root on Debian ({' '.join(words)})")
    print(f"installing {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["apt-get", "-qq", "update"], words):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    if POLICY.exists():  # the system's own rule stands
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


if __name__ == "__main__":
    if found := missing():
        install(found)
