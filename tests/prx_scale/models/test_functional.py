"""The primitives of a block: each form of its own against the plain formula, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from prx_scale.models import functional, onednn

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}
DTYPES = list(TOLERANCE)
needs_onednn = pytest.mark.skipif(not onednn.available(), reason="torch was built without oneDNN")


def normal(*size: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(size))
    return (scale * torch.randn(*size, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()


def results(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The value and the gradient of every input for one random upstream gradient, in float64."""
    value = function(*inputs)
    upstream = normal(*value.shape, dtype=value.dtype, seed=9).detach()
    return [each.detach().double() for each in (value, *torch.autograd.grad(value, inputs, upstream))]


def assert_same(
    own: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Against the plain formula in float64 of the same inputs, to the precision of their type."""
    tolerance = TOLERANCE[dtype or inputs[0].dtype]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    for mine, theirs in zip(results(own, *inputs), results(plain, *exact), strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance * (1 + theirs.abs().max().item()), rtol=tolerance)


def plain_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def plain_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + functional.EPS).rsqrt() * weight


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.2, dim=-1) @ v


def own_gelu(x: Tensor) -> Tensor:
    return functional.Gelu.apply(x)  # type: ignore[return-value]


def own_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.RmsNorm.apply(x, weight)  # type: ignore[return-value]


def own_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return onednn.attention(q, k, v, 0.2)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 9), width=st.integers(1, 40), dtype=st.sampled_from(DTYPES), scale=st.sampled_from([0.1, 4.0])
)
def test_gelu(rows: int, width: int, dtype: torch.dtype, scale: float) -> None:
    assert_same(own_gelu, plain_gelu, normal(rows, width, dtype=dtype, scale=scale))


def test_gelu_over_several_slices_and_far_out() -> None:
    assert_same(own_gelu, plain_gelu, normal(3, functional.SLICE // 2 + 7))
    far = torch.tensor([-1e4, -40.0, -6.0, 0.0, 6.0, 40.0, 1e4], requires_grad=True)
    value, slope = results(own_gelu, far)
    assert value[0] == 0 and value[-1] == 1e4 and slope.isfinite().all()
    assert_same(own_gelu, plain_gelu, far)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 9), heads=st.integers(1, 3), width=st.sampled_from([1, 7, 64]), dtype=st.sampled_from(DTYPES)
)
def test_rms_norm(rows: int, heads: int, width: int, dtype: torch.dtype) -> None:
    x, weight = normal(2, rows, heads, width, dtype=dtype), normal(width, dtype=dtype, seed=3)
    assert_same(own_rms_norm, plain_rms_norm, x, weight)


@needs_onednn
@settings(deadline=None, max_examples=25)
@given(
    lead=st.sampled_from([(5,), (2, 3), (1, 1)]),
    inputs=st.integers(1, 33),
    outputs=st.integers(1, 33),
    bias=st.booleans(),
)
def test_linear(lead: tuple[int, ...], inputs: int, outputs: int, bias: bool) -> None:
    tensors = [normal(*lead, inputs), normal(outputs, inputs, seed=1)] + [normal(outputs, seed=2)] * bias
    assert_same(lambda x, w, b=None: onednn.linear(x, w, b), F.linear, *tensors)


@needs_onednn
def test_linear_of_a_part_of_a_tensor() -> None:
    x, weight, bias = normal(3, 8, 16), normal(12, 16), normal(12)
    assert_same(
        lambda x, w, b: onednn.linear(x[:, 2:5], w, b), lambda x, w, b: F.linear(x[:, 2:5], w, b), x, weight, bias
    )


@needs_onednn
def test_linear_without_gradients_of_its_input() -> None:
    x, weight = normal(4, 6).detach(), normal(5, 6)
    (gradient,) = torch.autograd.grad(onednn.linear(x, weight, None).sum(), weight)
    torch.testing.assert_close(gradient, x.sum(0).expand(5, 6))


@needs_onednn
@settings(deadline=None, max_examples=10)
@given(heads=st.integers(1, 2), queries=st.integers(1, 30), keys=st.integers(1, 30))
def test_attention(heads: int, queries: int, keys: int) -> None:
    q, k, v = (normal(2, heads, n, 16, dtype=torch.bfloat16, seed=i) for i, n in enumerate((queries, keys, keys)))
    assert_same(own_attention, plain_attention, q, k, v)


@needs_onednn
def test_attention_is_as_exact_as_torch() -> None:
    """Errors against float64 are no larger than 1.2 times those of torch's own bfloat16 attention."""
    tensors = [normal(2, 256, 3, 64, dtype=torch.bfloat16, seed=i) for i in range(3)]

    def by_token(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *qkv: function(*(each.transpose(1, 2) for each in qkv)).transpose(1, 2)

    exact = results(by_token(plain_attention), *(each.detach().double().requires_grad_() for each in tensors))
    own = results(by_token(own_attention), *tensors)
    torchs = results(by_token(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.2)), *tensors)
    for mine, theirs, truth in zip(own, torchs, exact, strict=True):
        assert (mine - truth).norm() <= 1.2 * (theirs - truth).norm()


@pytest.mark.parametrize("function", [own_gelu, lambda x: own_rms_norm(x, torch.ones_like(x[0]))])
def test_gradcheck(function: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(function, normal(4, 5, dtype=torch.float64))


def test_modulation_and_gate() -> None:
    x, shift, scale = normal(2, 5, 8, dtype=torch.float64), normal(2, 8, dtype=torch.float64), normal(2, 8).double()
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + functional.EPS).sqrt()
    expected = normed * (1 + scale[:, None]) + shift[:, None]
    torch.testing.assert_close(functional.modulate(x, shift, scale), expected)
    torch.testing.assert_close(functional.gated(x, shift, expected), x + shift[:, None] * expected)


def block(x: Tensor, weight: Tensor, norm: Tensor) -> Tensor:
    """All element-wise forms and the linear layer, one after another."""
    return functional.gelu(functional.rms_norm(functional.linear(x, weight, None), norm))


def test_small_and_large_tensors_agree_with_the_plain_formulas() -> None:
    """The forms are chosen by size; the function is the same on both sides."""
    for rows in (1, functional.LEAST_PRODUCTS // 32**2 + 1):
        inputs = normal(rows, 32), normal(32, 32, seed=1), normal(32, seed=2)
        assert_same(block, lambda x, w, n: plain_gelu(plain_rms_norm(F.linear(x, w), n)), *inputs)


def test_under_checkpointing_the_gradients_are_the_same() -> None:
    inputs = normal(4, 1024, 32), normal(32, 32, seed=1), normal(32, seed=2)
    again = results(lambda *each: checkpoint(block, *each, use_reentrant=False), *inputs)  # type: ignore[arg-type]
    for mine, other in zip(results(block, *inputs), again, strict=True):
        assert torch.equal(mine, other)


def test_fake_and_meta_tensors_take_the_plain_form() -> None:
    with FakeTensorMode() as mode:
        x, weight, norm = (mode.from_tensor(each) for each in (normal(4, 32), normal(24, 32), normal(24)))
        assert block(x, weight, norm).shape == (4, 24)
    assert block(normal(4, 32).to("meta"), normal(24, 32).to("meta"), normal(24).to("meta")).is_meta


@needs_onednn
def test_flops_of_a_step_are_counted() -> None:
    x, weight = normal(4, 6, 32), normal(24, 32)
    with FlopCounterMode(display=False) as counter:
        onednn.linear(x, weight, None).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 24 * 32 * 24


@pytest.mark.slow
def test_compiled_whole() -> None:
    inputs = normal(4, 1024, 32), normal(32, 32, seed=1), normal(32, seed=2)
    compiled = torch.compile(block, backend="inductor", fullgraph=True)
    for mine, other in zip(results(compiled, *inputs), results(block, *inputs), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5 * other.abs().max().item(), rtol=1e-5)
