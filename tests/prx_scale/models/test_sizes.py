"""Parameters and FLOPs in closed form against the published model's numbers, the built model, and torch's counter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prx_scale.models.sizes import forward_flops, parameters
from tests.prx_scale.models.small_models import build, sd3_shape, small_shape


@pytest.mark.parametrize(
    ("depth", "plain", "normed"),
    [
        (15, 496_066_624, 496_070_464),
        (18, 856_159_552, 856_164_160),
        (24, 2_028_328_000, 2_028_334_144),
        (30, 3_962_392_384, 3_962_400_064),
        (38, 8_056_617_792, 8_056_627_520),
    ],
)
def test_sd3_parameter_counts(depth: int, plain: int, normed: int) -> None:
    for qk_norm, expected in ((False, plain), (True, normed)):
        counts = parameters(sd3_shape(depth, qk_norm=qk_norm))
        assert counts.backbone + counts.embedding == expected


@pytest.mark.parametrize(
    ("depth", "image_tokens", "expected"),
    [
        (15, 256, 144_766_264_320),
        (18, 256, 247_428_255_744),
        (24, 256, 578_823_192_576),
        (30, 256, 1_121_947_914_240),
        (38, 256, 2_265_974_247_424),
        (38, 1024, 6_859_985_981_440),
        (38, 4096, 29_596_766_900_224),
    ],
)
def test_sd3_forward_flops(depth: int, image_tokens: int, expected: int) -> None:
    assert forward_flops(sd3_shape(depth, image_tokens=image_tokens)) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("patch", [2, 4])
@pytest.mark.parametrize(("qk_norm", "told"), [(False, False), (True, False), (True, True)])
def test_counts_are_those_of_the_built_model(depth: int, patch: int, qk_norm: bool, told: bool) -> None:
    shape = replace(small_shape(depth, patch, qk_norm=qk_norm), size_conditioning=told)
    model = build(shape, patch)
    counts = parameters(shape)
    by_part = {name: getattr(counts, name) for name in counts.__dataclass_fields__}
    built = dict.fromkeys(by_part, 0)
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        built["blocks" if part == "layers" else part] += parameter.numel()
    assert built == by_part


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("patch", "told"), [(2, False), (4, False), (4, True)])
def test_flops_are_those_torch_counts(depth: int, patch: int, told: bool) -> None:
    shape = replace(small_shape(depth, patch), size_conditioning=told)
    model = build(shape, patch)
    inputs = {"t": torch.rand(1), "context": torch.randn(1, 7, 24), "pooled": torch.randn(1, 40)}
    # The counter knows the plain attention, not the CPU's fused one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 16, 16), **inputs)
    assert counter.get_total_flops() == forward_flops(shape)
