"""Masked padding of text, and models without a pooled state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from prx_scale.errors import InputError
from prx_scale.evaluation.sampling import guided_velocity
from prx_scale.models import functional, onednn
from prx_scale.models.convert.adapter import DiffusersAdapter
from prx_scale.models.convert.layouts import check_inputs
from prx_scale.models.embeddings import PositionGrid
from prx_scale.models.encoders.combinations import inputs_of_encoders
from prx_scale.models.encoders.dropping import without_condition
from prx_scale.models.encoders.states import TextStates
from prx_scale.models.inputs import SD3, Inputs, TextEncoder
from prx_scale.models.mmdit import MMDiT, mmdit_config
from prx_scale.models.names import WeightSizes, parameter_shapes
from prx_scale.models.sizes import Shape, forward_flops, parameters
from tests.prx_scale.models.small_models import build, small_shape

LENGTHS = (7, 3, 0)
GRID = PositionGrid(side=4, image=4, base=4)


def randomised(model: MMDiT) -> MMDiT:
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return model.eval()


def model_of(shape: Shape, split: tuple[int, ...] | None = None) -> MMDiT:
    model = mmdit_config(shape, channels=3, patch=4, grid=GRID, text_split=split).build()
    model.init_weights()
    return randomised(model)


def inputs() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    context = torch.randn(3, 7, 24, generator=generator)
    pooled, t = torch.randn(3, 40, generator=generator), torch.rand(3, generator=generator)
    return torch.randn(3, 3, 16, 16, generator=generator), {"t": t, "context": context, "pooled": pooled, "mask": mask}


@torch.no_grad()
def test_padding_says_nothing_and_there_may_be_any_amount_of_it() -> None:
    z, rest = inputs()
    model, longer = (model_of(replace(small_shape(2, 4), text_tokens=tokens)) for tokens in (7, 12))
    expected = model(z, **rest)
    noise = torch.where(rest["mask"][..., None], 0, 100 * torch.randn(3, 7, 24))
    torch.testing.assert_close(model(z, **{**rest, "context": rest["context"] + noise}), expected, atol=1e-5, rtol=1e-4)
    more = {"context": torch.cat([rest["context"], 50 * torch.randn(3, 5, 24)], 1)}
    more["mask"] = torch.cat([rest["mask"], torch.zeros(3, 5, dtype=torch.bool)], 1)
    torch.testing.assert_close(longer(z, **{**rest, **more}), expected, atol=1e-5, rtol=1e-4)
    heard = model(z, **{**rest, "mask": None})
    assert (heard[0] - expected[0]).abs().max() < 1e-5 < 1e-3 < (heard[1:] - expected[1:]).abs().amax((1, 2, 3)).min()


@pytest.mark.parametrize("split", [None, (3, 4)])
def test_a_masked_batch_is_its_captions_one_by_one_without_padding(split: tuple[int, int] | None) -> None:
    """Values and the gradients of all weights; with three weight sets, one of which may have no token left."""
    z, rest = inputs()
    shape = replace(small_shape(2, 4), weight_sets=3 if split else 2)
    model = model_of(shape, split)
    together = model(z, **rest)
    upstream = torch.randn(together.shape, generator=torch.Generator().manual_seed(4))
    gradients = torch.autograd.grad((together * upstream).sum(), list(model.parameters()), allow_unused=True)
    alone = []
    for row, length in enumerate(LENGTHS):
        model.config.text_split = (min(length, 3), max(length - 3, 0)) if split else (length,)
        said = {"t": rest["t"], "context": rest["context"][:, :length], "pooled": rest["pooled"]}
        alone.append(model(z[row : row + 1], **{name: each[row : row + 1] for name, each in said.items()}))
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    apart = torch.autograd.grad((torch.cat(alone) * upstream).sum(), list(model.parameters()), allow_unused=True)
    for (name, _), mine, theirs in zip(model.named_parameters(), gradients, apart, strict=True):
        assert mine is not None and theirs is not None, name
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_no_gradient_goes_to_padding() -> None:
    z, rest = inputs()
    rest["context"].requires_grad_()
    model_of(small_shape(2, 4))(z, **rest).square().sum().backward()
    assert rest["context"].grad is not None
    moved = rest["context"].grad.abs().sum(2) > 0
    assert torch.equal(moved, rest["mask"])


@torch.no_grad()
def test_without_a_mask_nothing_has_changed_and_a_full_one_changes_nothing() -> None:
    z, rest = inputs()
    del rest["mask"]
    model = model_of(small_shape(2, 4))
    expected = model(z, **rest)
    assert torch.equal(model(z, **rest, mask=None), expected)
    torch.testing.assert_close(model(z, **rest, mask=torch.ones(3, 7).bool()), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not onednn.available(), reason="torch was built without oneDNN")
def test_in_bfloat16_the_plain_attention_has_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where attention without one takes a form of its own, which knows none."""
    monkeypatch.setattr(onednn, "attention_is_quicker", lambda tokens: True)
    q, k, v = (
        torch.randn(2, 3, 256, 16, generator=torch.Generator().manual_seed(seed)).bfloat16().requires_grad_()
        for seed in range(3)
    )
    mask = (torch.arange(256) < torch.tensor([200, 131])[:, None])[:, None, None]
    value = functional.attention(q, k, v, 0.25, mask)
    value.float().square().sum().backward()
    assert k.grad is not None and not k.grad[1, :, 131:].any() and k.grad[1, :, :131].any()
    for row, length in ((0, 200), (1, 131)):
        short = functional.attention(q[row : row + 1], k[row : row + 1, :, :length], v[row : row + 1, :, :length], 0.25)
        torch.testing.assert_close(value[row : row + 1], short, atol=2e-2, rtol=2e-2)


def test_checkpointed_blocks_have_the_same_gradients() -> None:
    z, rest = inputs()
    plain = model_of(small_shape(2, 4))
    plain(z, **rest).square().sum().backward()
    again = model_of(small_shape(2, 4))
    for block in again.layers.values():
        inner = block.forward
        block.forward = lambda *args, inner=inner, **more: checkpoint(inner, *args, use_reentrant=False, **more)
    again(z, **rest).square().sum().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_compiled_blocks_take_the_mask() -> None:
    """Traced whole, forward and backward; what inductor makes of the graph takes a minute and is not this test's."""
    z, rest = inputs()
    model, compiled = (model_of(small_shape(2, 4)) for _ in range(2))
    for block in compiled.layers.values():
        block.compile(backend="aot_eager", fullgraph=True)
    one, other = model(z, **rest), compiled(z, **rest)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    one.square().sum().backward()
    other.square().sum().backward()
    for mine, theirs in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def without_pooled(depth: int = 2) -> Shape:
    return replace(small_shape(depth, 4), pooled_dim=0)


@torch.no_grad()
def test_without_a_pooled_state_the_condition_is_that_of_the_time() -> None:
    """The same as a model whose embedding of the pooled state gives zero."""
    z, rest = inputs()
    without, zero = model_of(without_pooled()), model_of(small_shape(2, 4))
    for name in ("weight", "bias"):
        getattr(zero.pooled_embed.second, name).zero_()  # type: ignore[union-attr]
    assert without.pooled_embed is None
    given = {**rest, "pooled": torch.empty(3, 0)}
    assert torch.equal(without(z, **given), zero(z, **rest))


def test_counts_names_and_initial_weights_without_a_pooled_state() -> None:
    shape = without_pooled()
    model, usual = build(shape, 4), build(small_shape(2, 4), 4)
    counts = parameters(shape)
    assert sum(p.numel() for p in model.parameters()) == counts.backbone + counts.embedding
    assert counts.pooled_embed == 0
    weights = WeightSizes(depth=2, hidden=128, patch=4, channels=3, context_dim=24, pooled_dim=0, qk_norm=True)
    named = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert named == parameter_shapes(weights)
    rest = {name: value for name, value in usual.named_parameters() if not name.startswith("pooled_embed.")}
    assert list(rest) == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(value, rest[name]) for name, value in model.named_parameters())
    randomised(model)
    z, said = inputs()
    told = {**said, "pooled": torch.empty(3, 0)}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(z, **told)
    assert counter.get_total_flops() == 3 * forward_flops(shape)


TWO = Inputs(
    channels=3,
    context_dim=24,
    pooled_dim=40,
    encoders=(
        TextEncoder(name="read", tokens=(0, 3), channels=(0, 24), pooled=(0, 40)),
        TextEncoder(name="hidden", tokens=(3, 7), channels=(0, 24), masked=True),
    ),
)


@torch.no_grad()
def test_guidance_leads_away_from_zeros_that_are_read_and_tokens_that_are_not() -> None:
    z, rest = inputs()
    mask = torch.tensor([[True] * 7, [True] * 5 + [False] * 2, [True] * 3 + [False] * 4])
    text = TextStates(tokens=rest["context"], pooled=rest["pooled"], mask=mask)
    empty = without_condition(text, TWO)
    assert not empty.tokens.any() and not empty.pooled.any() and empty.mask is not None
    assert empty.mask.tolist() == [[True] * 3 + [False] * 4] * 3
    assert text.tokens.any() and text.mask is mask and mask.sum() == 15
    model = model_of(small_shape(2, 4))
    velocity = guided_velocity(model, text, TWO, 3.0)(z, rest["t"])
    told = model(z, t=rest["t"], context=text.tokens, pooled=text.pooled, mask=mask)
    none = model(z, t=rest["t"], context=empty.tokens, pooled=empty.pooled, mask=empty.mask)
    torch.testing.assert_close(velocity, none + 3 * (told - none), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["clip-l", "t5gemma"], "--format diffusers: the model does not attend to the padding of 't5gemma', and SD3's"),
        (["qwen2.5-vl"], "padding of 'qwen2.5-vl', and SD3's transformer takes no mask.* --format prx holds"),
        (["t5"], "SD3's transformer takes a pooled text state, and 't5' gives none; --format prx holds"),
    ],
)
def test_published_layouts_refuse_what_they_cannot_be_given(text: list[str], message: str) -> None:
    check_inputs(SD3, "diffusers")
    with pytest.raises(InputError, match=message):
        check_inputs(inputs_of_encoders(text=text, image="sd3"), "diffusers")


def test_titans_adapter_refuses_a_model_without_pooled_state() -> None:
    config = mmdit_config(without_pooled(), channels=3, patch=4, grid=GRID)
    with pytest.raises(InputError, match="takes no pooled text state, and the diffusers layout has weights for one"):
        DiffusersAdapter(config, None).to_hf({})
