"""Check and time training steps on one GPU in one call, and print a short table.

    python benchmarks/train/gpu.py --wheels wheels/

1. The card's matmul rate, measured in bfloat16: what MFU is relative to.
2. Our compiled block has the gradients of the eager one, and our model the function of diffusers'.
3. Compiled to compiled and eager to eager against diffusers' SD3Transformer2DModel.
4. TorchTitan's Flux blocks at equal FLOPs.
5. Depth 24 at 256 px: seconds a step, images a second and MFU.

Needs torch 2.11 or later. TorchTitan and diffusers are taken where they are installed, else from wheels in the folder
`--wheels` (installed without their dependencies into a temporary folder); a part that needs one that is missing is
left out, with a line that says so. `--device cpu --toy` runs the same code at a tiny size, to see that it works.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Times, alternate

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run every part that can run, within the limit."""
    options = _options()
    began = time.monotonic()
    sys.path.insert(0, str(ROOT))
    if options.wheels:
        _install(options.wheels)
    device = torch.device(options.device)
    rate = matmul_rate(device, 256 if options.toy else 8192)
    print(f"{_setting(device)}\nmatmul rate, bfloat16: {rate / 1e12:.3g} TFLOP/s", flush=True)
    if not _found("torchtitan"):
        raise SystemExit("our model needs torchtitan: install it, or give its wheel and those it imports by --wheels")
    from parallel.titan import process_group_environment

    with process_group_environment():
        for part in (exactness, against_diffusers, against_flux, large):
            if time.monotonic() - began > options.limit:
                print(f"{part.__name__}: left out, the limit of {options.limit:.0f} s is reached")
                continue
            part(device, options, rate)
    print(f"all in {time.monotonic() - began:.0f} s")


def matmul_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a square bfloat16 matrix product: the best of 20, as nothing else should run."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = alternate({"matmul": lambda: a @ b}, turns=20, seconds=20, device=device, warmup=3)["matmul"]
    return 2 * size**3 / float(times.wall.min())


def exactness(device: torch.device, options: argparse.Namespace, rate: float) -> None:
    """Gradients of compiled blocks against eager ones in float32, and the function against diffusers'."""
    from models import Case
    from subjects import check, our_subject, their_subject

    case = _toy() if options.toy else Case(depth=4, width=512, batch=4)
    eager, compiled = (our_subject(case, "float32", device, backend=each) for each in (None, _backend(options)))
    eager.gradients()
    compiled.gradients()
    worst = 0.0
    for a, b in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        worst = max(worst, ((a.grad - b.grad).norm() / a.grad.norm().clamp_min(1e-12)).item())
    print(f"gradients, compiled against eager, float32: largest relative difference {worst:.1e}")
    if worst > 1e-3:
        raise SystemExit("compiled blocks have other gradients than eager ones")
    if _missing("diffusers", "the function against diffusers'"):
        return
    check(eager, their_subject(case, "float32", device, backend=None), "float32")
    print("function: that of diffusers' model")


def against_diffusers(device: torch.device, options: argparse.Namespace, rate: float) -> None:
    """Steps of both, eager and compiled, as they are trained and with one optimiser."""
    if _missing("diffusers", "steps beside diffusers'"):
        return
    from models import Case
    from subjects import pair

    case = _toy() if options.toy else Case(depth=12, width=768, batch=64)
    for backend in (None, _backend(options)):
        torch._dynamo.reset()
        times = alternate(
            pair(case, "bf16", device, backend=backend), turns=15, seconds=options.seconds, device=device, warmup=3
        )
        mode = "compiled" if backend else "eager"
        cells = [
            f"{first} {_ratio(times[above], times[below])}"
            for first, above, below in (
                ("diffusers / ours", "theirs", "ours"),
                ("one optimiser", "theirs, fused", "ours"),
                ("gradients alone", "theirs, gradients", "ours, gradients"),
            )
        ]
        print(f"{case}, bf16, {mode}: ours {_ms(times['ours'])}, {', '.join(cells)}", flush=True)
        _free(device)


def against_flux(device: torch.device, options: argparse.Namespace, rate: float) -> None:
    """Compiled gradients of our blocks and of TorchTitan's Flux blocks, a FLOP of each counted the same."""
    if _missing("torchtitan.models.flux", "TorchTitan's Flux blocks", also=("einops", "spmd_types")):
        return
    try:
        from flux import blocks

        importlib.import_module("torchtitan.models.flux")
    except ImportError as error:
        print(f"TorchTitan's Flux blocks: not measured, {error}")
        return
    from models import Case

    case = _toy() if options.toy else Case(depth=6, width=1536, batch=32)
    ours, theirs = blocks(case, device, _backend(options))
    times = alternate(
        {"ours": ours.gradients, "flux": theirs.gradients}, turns=15, seconds=options.seconds, device=device, warmup=3
    )
    for name, each in (("ours", ours), ("flux", theirs)):
        mfu = each.flops / float(np.median(times[name].wall)) / rate
        print(f"blocks, {name}: {each.flops / 1e12:.3g} TFLOP, {_ms(times[name])}, MFU {mfu:.1%}")
    each_flop = (times["flux"].wall / theirs.flops) / (times["ours"].wall / ours.flops)
    print(f"flux / ours at equal FLOPs: {np.median(each_flop):.2f}", flush=True)
    _free(device)


def large(device: torch.device, options: argparse.Namespace, rate: float) -> None:
    """Depth 24 at 256 px as the trainer runs it: bfloat16 products, float32 weights and optimiser, compiled."""
    from models import Case
    from subjects import adamw, our_subject

    from prx_scale.models.sizes import training_flops

    case = _toy() if options.toy else Case(depth=24, width=1536, batch=options.batch)
    torch._dynamo.reset()
    subject = our_subject(case, "bf16", device, backend=_backend(options))
    step = subject.step(adamw(subject.model, fused=True))
    times = alternate({"step": step}, turns=15, seconds=options.seconds, device=device, warmup=3)["step"]
    flops = training_flops(case.shape) * case.batch
    seconds = float(np.median(times.wall))
    print(
        f"{case}, bf16, compiled: {_ms(times)} a step, {case.batch / seconds:.3g} images/s,"
        f" MFU {flops / seconds / rate:.1%} of the measured matmul rate{_peak(device)}",
        flush=True,
    )


def _backend(options: argparse.Namespace) -> str:
    """Of torch.compile; a toy goes through everything but code generation, which takes minutes on a CPU."""
    return "aot_eager" if options.toy else "inductor"


def _toy() -> Any:
    from models import Case

    return Case(depth=2, width=128, batch=2, side=4, text=6, channels=4, context=32, pooled=16)


def _install(folder: Path) -> None:
    """Wheels of the folder into a temporary one that goes first on the path; nothing is downloaded."""
    wheels = sorted(str(wheel) for wheel in folder.glob("*.whl"))
    if not wheels:
        raise SystemExit(f"--wheels: no wheel in {folder}")
    target = tempfile.mkdtemp(prefix="wheels-")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", target]
    subprocess.run([*command, *wheels], check=True)
    # Behind what is installed, so that a carried wheel only fills a gap.
    sys.path.append(target)
    importlib.invalidate_caches()


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _missing(name: str, what: str, also: tuple[str, ...] = ()) -> bool:
    """Whether a package is missing; then it says what is left out."""
    absent = [each for each in (name, *also) if not _found(each)]
    if absent:
        print(f"{what}: not measured, {', '.join(absent)} not installed")
    return bool(absent)


def _ratio(above: Times, below: Times) -> str:
    return f"{np.median(above.wall / below.wall):.2f}"


def _ms(times: Times) -> str:
    return f"{1000 * float(np.median(times.wall)):.4g} ms"


def _peak(device: torch.device) -> str:
    return f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""


def _free(device: torch.device) -> None:
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _setting(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}; {time.strftime('%d %B %Y')}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, to see that everything runs")
    parser.add_argument("--wheels", type=Path, help="folder with wheels of what is not installed")
    parser.add_argument("--batch", type=int, default=64, help="images a step at depth 24")
    parser.add_argument("--seconds", type=float, default=40, help="no further turn of a part after so long")
    parser.add_argument("--limit", type=float, default=420, help="no further part after so many seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
