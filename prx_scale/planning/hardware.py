"""What GPUs are said to do by their makers, and how much of it training gets. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from prx_scale.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU in the machine it usually comes in."""

    name: str
    title: str
    bfloat16_tflops: float
    """Dense matrix products in bfloat16, without structured sparsity."""
    float32_tflops: float
    """Matrix products of float32 numbers as torch does them by default, without TF32."""
    memory_gib: float
    """As the driver reports it, a little less than is printed on the box."""
    memory_gbs: float
    """10^9 bytes a second to and from its memory."""
    link_gbs: float
    """10^9 bytes a second to other GPUs of its machine, in one direction."""
    network_gbs: float
    """The same to other machines; the maker's reference design has one adapter a GPU."""
    per_node: int
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            name="h100",
            title="NVIDIA H100 SXM5 80 GB",
            bfloat16_tflops=989.4,
            float32_tflops=66.9,
            memory_gib=79.1,
            memory_gbs=3350,
            link_gbs=450,
            network_gbs=50,
            per_node=8,
            source="NVIDIA H100 datasheet (989 TFLOPS without sparsity, 3.35 TB/s, NVLink 900 GB/s both ways); "
            "DGX H100: 8 x ConnectX-7 at 400 Gb/s",
        ),
        Gpu(
            name="h200",
            title="NVIDIA H200 SXM 141 GB",
            bfloat16_tflops=989.4,
            float32_tflops=66.9,
            memory_gib=139.8,
            memory_gbs=4800,
            link_gbs=450,
            network_gbs=50,
            per_node=8,
            source="NVIDIA H200 datasheet (4.8 TB/s, NVLink 900 GB/s both ways); DGX H200: 8 x ConnectX-7 at 400 Gb/s",
        ),
        Gpu(
            name="b200",
            title="NVIDIA B200 SXM 180 GB",
            bfloat16_tflops=2250,
            float32_tflops=75,
            memory_gib=178.0,
            memory_gbs=7700,
            link_gbs=900,
            network_gbs=50,
            per_node=8,
            source="NVIDIA DGX B200 datasheet (180 GB a GPU, NVLink 1.8 TB/s both ways, 8 x ConnectX-7 at 400 Gb/s); "
            "HGX B200: 2.25 PFLOPS bf16 without sparsity, 7.7 TB/s",
        ),
        Gpu(
            name="a100-80",
            title="NVIDIA A100 SXM4 80 GB",
            bfloat16_tflops=312,
            float32_tflops=19.5,
            memory_gib=79.2,
            memory_gbs=2039,
            link_gbs=300,
            network_gbs=25,
            per_node=8,
            source="NVIDIA A100 datasheet (312 TFLOPS, 2,039 GB/s, NVLink 600 GB/s both ways); "
            "DGX A100: 8 x ConnectX-6 at 200 Gb/s",
        ),
        Gpu(
            name="a100-40",
            title="NVIDIA A100 SXM4 40 GB",
            bfloat16_tflops=312,
            float32_tflops=19.5,
            memory_gib=39.4,
            memory_gbs=1555,
            link_gbs=300,
            network_gbs=25,
            per_node=8,
            source="NVIDIA A100 datasheet (312 TFLOPS, 1,555 GB/s, NVLink 600 GB/s both ways); "
            "DGX A100: 8 x ConnectX-6 at 200 Gb/s",
        ),
        Gpu(
            name="l40s",
            title="NVIDIA L40S 48 GB",
            bfloat16_tflops=362,
            float32_tflops=91.6,
            memory_gib=44.4,
            memory_gbs=864,
            link_gbs=32,
            network_gbs=25,
            per_node=8,
            source="NVIDIA L40S (362 TFLOPS bf16 without sparsity, 864 GB/s, PCIe 4.0 x16 64 GB/s both ways); "
            "network of one 200 Gb/s adapter a GPU is an assumption",
        ),
        Gpu(
            name="mi300x",
            title="AMD Instinct MI300X 192 GB",
            bfloat16_tflops=1307.4,
            float32_tflops=163.4,
            memory_gib=191.5,
            memory_gbs=5300,
            link_gbs=448,
            network_gbs=50,
            per_node=8,
            source="AMD Instinct MI300X datasheet (1,307.4 TFLOPS bf16, 5.3 TB/s, 7 Infinity Fabric links of 64 GB/s); "
            "network of one 400 Gb/s adapter a GPU is an assumption",
        ),
    )
}

MATRIX_SHARE = 0.70
"""Of the peak that a large matrix product reaches. Large bfloat16 products measured on H100 SXM5, whose clock sinks
under load, lie between 60 and 80 % of 989 TFLOP/s."""
ATTENTION_SHARE = 0.50
"""Of the peak that fused attention reaches, forward and backward. FlashAttention-3 reports up to 75 % forward at head
width 128 on H100 and FlashAttention-2 35 % (Shah et al. 2024); width 64 and the backward pass are slower."""
MEMORY_SHARE = 0.80
"""Of the memory's bandwidth that operators without products reach. Copies measured on H100 reach 90 % and more."""
LINK_SHARE = 0.80
"""Of a link's bandwidth that collectives reach on large tensors, in one machine and between machines."""
LATENCY_SECONDS = 20e-6
"""Of a collective, whatever its size."""
DISPATCH_SECONDS = 6e-6
"""That Python and torch need to launch one operator; GPUs wait where operators are shorter than that."""
HEADROOM_GIB = 6.0
"""Left free for the CUDA context, NCCL's buffers, workspaces of products and the allocator's fragments."""


def find_gpu(name: str) -> Gpu:
    """A GPU by its name.

    Args:
        name: a key of the table.

    Raises:
        InputError: there is none of that name.
    """
    if name.lower() not in GPUS:
        raise InputError(f"--gpu: '{name}' is not in the table; {nearest(name.lower(), GPUS)}; all: {', '.join(GPUS)}")
    return GPUS[name.lower()]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU that is planned with, and what it gets done: the table's numbers, or the user's in their place."""

    gpu: str
    peak_tflops: float
    """Of matrix products, in the precision of the run."""
    memory_gib: float
    memory_gbs: float
    link_gbs: float
    network_gbs: float
    per_node: int
    matrix_share: float = MATRIX_SHARE
    attention_share: float = ATTENTION_SHARE
    memory_share: float = MEMORY_SHARE
    link_share: float = LINK_SHARE
    headroom_gib: float = HEADROOM_GIB
    encoders_gib: float = 0.0
    """Of weights that encode while a run trains."""

    @property
    def usable_gib(self) -> float:
        """Memory that a run may fill."""
        return self.memory_gib - self.headroom_gib - self.encoders_gib


def machine(
    name: str,
    *,
    precision: str,
    peak_tflops: float = 0,
    efficiency: float = 0,
    interconnect_gbs: float = 0,
    per_node: int = 0,
    headroom: float | None = None,
) -> Machine:
    """A machine from the table, with what the user knows better; 0 stands for the table's value.

    Args:
        name: of the GPU.
        precision: of matrix products, float32 or bfloat16.
        peak_tflops: 10^12 FLOPs a second.
        efficiency: share of the peak that large matrix products reach.
        interconnect_gbs: 10^9 bytes a second between machines, for each GPU.
        per_node: GPUs of one machine.
        headroom: memory left free: GiB, or a share of the memory where it is below 1; None is the default.

    Raises:
        InputError: unknown GPU, or an impossible value.
    """
    gpu = find_gpu(name)
    for option, value in (("--peak-tflops", peak_tflops), ("--interconnect-gbs", interconnect_gbs)):
        if value < 0:
            raise InputError(f"{option}: {value:g} is negative")
    if not 0 <= efficiency <= 1:
        raise InputError(f"--efficiency: {efficiency:g} is not a share between 0 and 1")
    if per_node < 0:
        raise InputError(f"--gpus-per-node: {per_node} is negative")
    free = HEADROOM_GIB if headroom is None else headroom * gpu.memory_gib if 0 <= headroom < 1 else headroom
    if not 0 <= free < gpu.memory_gib:
        raise InputError(
            f"--memory-headroom: {headroom:g} leaves nothing of the {gpu.memory_gib:g} GiB of a {gpu.name}; "
            "give GiB, or a share below 1"
        )
    default_peak = gpu.float32_tflops if precision == "float32" else gpu.bfloat16_tflops
    matrix = efficiency or MATRIX_SHARE
    return Machine(
        gpu=gpu.name,
        peak_tflops=peak_tflops or default_peak,
        memory_gib=gpu.memory_gib,
        memory_gbs=gpu.memory_gbs,
        link_gbs=gpu.link_gbs,
        network_gbs=interconnect_gbs or gpu.network_gbs,
        per_node=per_node or gpu.per_node,
        matrix_share=matrix,
        attention_share=min(ATTENTION_SHARE, matrix),
        headroom_gib=free,
    )
