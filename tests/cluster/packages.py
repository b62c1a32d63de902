"""What the test cluster needs of the system. `python -m tests.cluster.packages` prints what is missing."""

from __future__ import annotations

import os
import shutil

PROGRAMS = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "srun": "slurm-wlm",
    "sacct": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}


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
        names = " ".join(packages)
        return f"no SLURM here: `make test-slurm` installs it (apt-get install --no-install-recommends {names})"
    return None if os.geteuid() == 0 else "the daemons of the test cluster start as root: run `make test-slurm` as root"


if __name__ == "__main__":
    print(*missing())
