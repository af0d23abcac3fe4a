"""The quantiser against a few lines of autograd with a straight-through rounding, in float64, to 1e-10."""

import itertools

import pytest
import torch
from torch import Tensor

from shoestring.compress.lsq.quantise import quantise, scaled_gradient

CONFIGS = {
    "1 unsigned": lambda bits: (0, 2**bits - 1, False),
    "2 signed": lambda bits: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, False),
    "3 signed, offset": lambda bits: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, True),
    "4 unsigned, offset": lambda bits: (0, 2**bits - 1, True),
}
CASES = list(itertools.product(CONFIGS, (2, 3, 4, 8)))
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
    "every other": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "expanded": lambda x: x[:1].expand(3, -1, -1, -1),
    "one column": lambda x: x[..., :1],
}


def oracle(x: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int) -> Tensor:
    """The definition, differentiated by autograd: rounding has the gradient of no rounding, a bound none."""
    z = (x if offset is None else x - offset) / step
    clipped = torch.where(z <= low, float(low), torch.where(z >= high, float(high), z))
    y = (clipped + (torch.round(clipped) - clipped).detach()) * step
    return y if offset is None else y + offset


def row_by_row(x: Tensor, steps: Tensor, offset: None, low: int, high: int) -> Tensor:
    return torch.stack([oracle(row, step, offset, low, high) for row, step in zip(x, steps, strict=True)])


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def inputs(low: int, high: int, step: float, offset: float) -> Tensor:
    """[2, 3, 4, 9] values: inside, far outside, exactly at the bounds and half-way between codes."""
    noise = torch.randn(200, generator=torch.Generator().manual_seed(low + high), dtype=torch.float64)
    z = torch.cat([noise * (high - low) + (high + low) / 2, torch.tensor([low, high, low + 0.5, high - 0.5, 0, 0.5])])
    codes = torch.cat([z, z[:10] - 3 * high])
    return (codes * step + offset).reshape(2, 3, 4, 9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("config", "bits"), CASES)
def test_values_and_gradients(config: str, bits: int, layout: str) -> None:
    """A step of a quarter, so that what lies on a bound lies exactly on it."""
    low, high, has_offset = CONFIGS[config](bits)
    found, expected = [], []
    for function, results in ((quantise, found), (oracle, expected)):
        step, offset = leaf(0.25), leaf(-0.75) if has_offset else None
        x = inputs(low, high, 0.25, -0.75 if has_offset else 0.0).requires_grad_()
        y = function(LAYOUTS[layout](x), step, offset, low, high)
        upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y.backward(upstream)
        results += [y.detach(), x.grad, step.grad, *([offset.grad] if offset is not None else [])]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_step_for_each_channel(bits: int) -> None:
    low, high, _ = CONFIGS["2 signed"](bits)
    steps = (0.25, 0.5, 0.125)
    values = torch.stack([inputs(low, high, step, 0.0)[0] for step in steps])
    found, expected = [], []
    for function, results in ((quantise, found), (row_by_row, expected)):
        step, x = leaf(*steps), values.clone().requires_grad_()
        y = function(x, step, None, low, high)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        results += [y.detach(), x.grad, step.grad]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def test_the_table_of_the_paper() -> None:
    """LSQ+ equations 4 to 6 at five points by hand: below, at the bound, inside, at the bound, above. Codes -2..1."""
    step, offset = leaf(0.5), leaf(0.25)
    x = leaf(-9.0, -0.75, 0.375, 0.75, 9.0)
    y = quantise(x, step, offset, -2, 1)
    assert y.tolist() == [-0.75, -0.75, 0.25, 0.75, 0.75]
    by_step, by_offset = [], []
    for index in range(5):
        gradients = torch.autograd.grad(y[index], (x, step, offset), retain_graph=True)
        assert gradients[0][index] == (1.0 if index == 2 else 0.0)
        by_step.append(gradients[1].item())
        by_offset.append(gradients[2].item())
    assert by_step == [-2, -2, 0 - 0.25, 1, 1]
    assert by_offset == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_scale_is_of_step_and_offset_only(channels: int) -> None:
    gradients = {}
    for scale in (1.0, 0.125):
        x = inputs(-8, 7, 0.25, 0.0)[:, :channels].transpose(0, 1).contiguous().requires_grad_()
        step, offset = leaf(*[0.3] * channels), leaf(0.1) if channels == 1 else None
        y = quantise(x, step, offset, -8, 7, scale)
        y.square().sum().backward()
        gradients[scale] = (y.detach(), x.grad, step.grad, offset.grad if offset is not None else step.grad)
    assert torch.equal(gradients[1.0][0], gradients[0.125][0])
    assert torch.equal(gradients[1.0][1], gradients[0.125][1])
    for index in (2, 3):
        torch.testing.assert_close(0.125 * gradients[1.0][index], gradients[0.125][index], rtol=0, atol=1e-10)


def test_scaled_gradient_leaves_the_value_alone() -> None:
    x = leaf(0.1, -3e20, 7e-20)
    y = scaled_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.3), rtol=0, atol=1e-16)


def test_rounding_is_to_the_nearest_even_code() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 3.5])
    assert quantise(x, torch.ones(1), None, -4, 3).tolist() == [0, 2, 2, 0, -2, 3]
    assert quantise(x.reshape(2, 3), torch.ones(2), None, -4, 3).flatten().tolist() == [0, 2, 2, 0, -2, 3]


@pytest.mark.parametrize("has_offset", [False, True])
def test_the_layout_is_kept(has_offset: bool) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    y = quantise(x, torch.ones(1), torch.zeros(1) if has_offset else None, 0, 3)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert x.grad is not None and x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bits", [2, 8])
def test_float32_gradients_are_not_far_from_float64(bits: int) -> None:
    """The step's gradient is a difference of two sums; relative to what they add up, float32 has 2^-24 a term."""
    low, high, _ = CONFIGS["4 unsigned, offset"](bits)
    x = torch.randn(2**16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs()
    results = []
    for dtype in (torch.float64, torch.float32):
        step = torch.tensor([3.0 / high], dtype=dtype, requires_grad=True)
        offset = torch.tensor([-0.01], dtype=dtype, requires_grad=True)
        upstream = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        quantise(x.to(dtype), step, offset, low, high).backward(upstream.to(dtype))
        results.append((step.grad.item(), offset.grad.item()))
    spread = (len(x) ** 0.5) * high
    assert abs(results[0][0] - results[1][0]) < 1e-5 * spread
    assert abs(results[0][1] - results[1][1]) < 1e-5 * len(x) ** 0.5
