"""Decomposed layers against the structured layers that they replace, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shoestring.compress.structured_conv.decompose import decompose, project
from shoestring.core.errors import BadInput

EXACT = 1e-10


def difference(layer: nn.Module, x: torch.Tensor, c: int | None, n: int | None) -> float:
    """Between a layer with its projected weight and what replaces it."""
    layer = layer.double()
    whole = project(layer, c, n)
    replaced = decompose(layer, c, n)
    layer.weight.data = whole  # type: ignore[union-attr]
    with torch.no_grad():
        one, other = layer(x), replaced(x)
    assert one.shape == other.shape
    return float((one - other).abs().max())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 9999),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 3), st.sampled_from(["valid", "same"])),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2, 8]),
    mode=st.sampled_from(["zeros", "reflect", "circular"]),
    c=st.one_of(st.none(), st.integers(1, 8)),
    n=st.one_of(st.none(), st.integers(1, 4)),
    bias=st.booleans(),
)
def test_any_convolution(  # noqa: PLR0913 - all that a convolution has
    seed, kernel, stride, padding, dilation, groups, mode, c, n, bias
) -> None:
    torch.manual_seed(seed)
    if padding == "same":
        stride, mode = 1, "zeros"
    elif mode != "zeros" and isinstance(padding, str):
        mode = "zeros"
    c = None if groups > 1 else c
    layer = nn.Conv2d(8, 16, kernel, stride, padding, dilation, groups, bias, mode)
    x = torch.randn(2, 8, 13, 12, dtype=torch.float64)
    if (c in (None, 8)) and (n is None or n >= max(kernel)):
        with pytest.raises(BadInput, match=r"leave a weight of .* as it is"):
            decompose(layer, c, n)
    else:
        assert difference(layer, x, c, n) < EXACT


@pytest.mark.parametrize("c", [1, 2, 5, 8])
def test_linear_and_one_dimension(c: int) -> None:
    torch.manual_seed(c)
    assert difference(nn.Linear(9, 5), torch.randn(2, 3, 9, dtype=torch.float64), c, None) < EXACT
    assert difference(nn.Conv1d(9, 4, 5, 2, 2), torch.randn(2, 9, 20, dtype=torch.float64), c, 2) < EXACT


def test_what_is_put_there() -> None:
    layer = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    parts = decompose(layer, n=2)
    assert list(dict(parts.named_children())) == ["pool", "layer"]
    assert (parts.pool.stride, parts.pool.padding, parts.pool.kernel_size) == ((1, 1), (1, 1), (2, 2))
    assert (parts.layer.stride, parts.layer.padding, parts.layer.kernel_size) == ((2, 2), (0, 0), (2, 2))
    assert parts.pool.weight.eq(1).all()
    assert not parts.pool.weight.requires_grad
    assert parts.layer.weight.requires_grad
    assert sum(p.numel() for p in parts.parameters() if p.requires_grad) == 16 * 8 * 4
    assert list(dict(decompose(layer, 4, 2).named_children())) == ["channels", "pool", "layer"]
    assert decompose(nn.Linear(6, 2), 3).layer.in_features == 3
    assert layer.weight.shape == (16, 8, 3, 3)  # as it was


def test_a_projection_keeps_type_and_is_nearest() -> None:
    layer = nn.Conv2d(4, 3, 3)
    found = project(layer, n=2)
    assert found.dtype == torch.float32
    rest = layer.weight.detach() - found
    other = project(nn.Conv2d(4, 3, 3), n=2)
    assert abs(float((rest * other).sum())) < 1e-5  # what is left out is orthogonal to all that is structured


def test_same_padding_of_another_mode_is_refused() -> None:
    with pytest.raises(BadInput, match="write the padding as numbers"):
        decompose(nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular"), n=2)
