"""Plan small runs and train them for real, each in processes of its own; write the comparison as JSON and as a table.

python -m benchmarks.plan.compare [NAME...]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks.plan.cases import CASES, Case

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "plan.md"
MARK = "<!-- benchmark: plan -->"
MIB = 2**20
TARGET = 0.05
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}


def compared(case: Case) -> dict[str, object]:
    """Estimate and measurement of one case, in bytes.

    Args:
        case: the case.
    """
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)]
        measure = [*(launcher if case.processes > 1 else []), "-m", "benchmarks.plan.measure", case.name, folder]
        _run([sys.executable, *measure])
        measured = json.loads((Path(folder) / "measured.json").read_text())
        _run([sys.executable, "-m", "benchmarks.plan.estimate", case.name, folder])
        estimated = json.loads((Path(folder) / "estimated.json").read_text())
    return {"name": case.name, "measured": measured, "estimated": estimated}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")


def table(rows: list[dict[str, dict[str, float]]], when: dict[str, str]) -> str:
    """The comparison in Markdown.

    Args:
        rows: of every case.
        when: date and versions.
    """
    lines = [
        "",
        f"Measured {when['date']} on a CPU: torch {when['torch']}, torchtitan {when['torchtitan']}, {when['python']}.",
        "",
        "| run | estimated | allocated | off | with gloo's copies | activations + communication, estimated | tracked |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        estimated, measured = row["estimated"], row["measured"]
        off = estimated["total"] / measured["allocated"] - 1
        mine = sum(estimated[name] for name in ("activations", "communication"))
        theirs = sum(measured["tracked"][name] for name in ("activations", "communication"))  # type: ignore[index]
        missed = " (missed)" if abs(off) > TARGET else ""
        lines.append(
            f"| {row['name']} | {estimated['total'] / MIB:.1f} | {measured['allocated'] / MIB:.1f} | "
            f"{off:+.1%}{missed} | {measured['with_gloo'] / MIB:.1f} | {mine / MIB:.1f} | {theirs / MIB:.1f} |"
        )
    return "\n".join([*lines, "", ""])


def main() -> None:
    """Compare the cases named on the command line, or all of them."""
    chosen = [each for each in CASES if not sys.argv[1:] or each.name in sys.argv[1:]]
    known = {row["name"]: row for row in json.loads(RESULTS.read_text())["rows"]} if RESULTS.exists() else {}
    when = {name: version(name) for name in ("torch", "torchtitan")}
    when |= {"date": date.today().isoformat(), "python": f"Python {platform.python_version()}"}
    for case in chosen:
        known[case.name] = compared(case)
        rows = [known[each.name] for each in CASES if each.name in known]
        RESULTS.write_text(json.dumps({"when": when, "rows": rows}, indent=1) + "\n")
        print(table([known[case.name]], when).splitlines()[-2], flush=True)
    if PAGE.exists():
        before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
        PAGE.write_text(before + MARK + table(rows, when) + MARK + after, encoding="utf-8")


if __name__ == "__main__":
    main()
