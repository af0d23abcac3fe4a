"""What is left of a kernel, and what is refused."""

import math

import pytest
import torch
from torch import nn

from shoestring.compress.structured_conv import project
from shoestring.compress.structured_conv.shape import Shape, shape_of
from shoestring.core.errors import BadInput


def test_of_every_kind_of_layer() -> None:
    assert shape_of(nn.Conv2d(4, 6, 3), n=2) == Shape(4, (3, 3), 4, (2, 2))
    assert shape_of(nn.Conv2d(4, 6, (1, 7)), 2, 3) == Shape(4, (1, 7), 2, (1, 3))
    assert shape_of(nn.Conv2d(8, 8, 3, groups=8), n=2) == Shape(1, (3, 3), 1, (2, 2))
    assert shape_of(nn.Conv1d(4, 6, 5), n=2) == Shape(4, (5,), 4, (2,))
    assert shape_of(nn.Linear(10, 3), 4) == Shape(10, (), 4, ())


def test_what_a_shape_says() -> None:
    shape = Shape(4, (3, 5), 4, (2, 5))
    assert shape.changes
    assert shape.pools
    assert shape.window == (2, 1)
    assert [basis is None for basis in shape.projectors()] == [True, True, False, True]
    assert not Shape(4, (3, 3), 4, (3, 3)).changes
    channels = Shape(4, (), 2, ())
    assert channels.changes
    assert not channels.pools


@pytest.mark.parametrize(
    ("layer", "c", "n"),
    [
        (nn.Conv2d(4, 6, 3), None, 2),
        (nn.Conv2d(4, 6, (1, 7)), 2, 3),
        (nn.Conv2d(8, 8, 5, groups=8), None, 2),
        (nn.Conv1d(4, 6, 5), 3, 1),
        (nn.Linear(10, 3), 4, None),
        (nn.Conv2d(3, 2, 3), None, None),
    ],
)
def test_a_basis_of_the_flat_weights(layer: nn.Conv2d, c: int | None, n: int | None) -> None:
    """Orthonormal, as many columns as a structured weight has numbers; what it projects to is what `project` finds."""
    shape = shape_of(layer, c, n)
    basis = shape.basis()
    count = shape.c * math.prod(shape.n)
    assert basis.dtype == torch.float64
    assert basis.shape == (layer.weight[0].numel(), count)
    assert torch.allclose(basis.mT @ basis, torch.eye(count, dtype=basis.dtype), atol=1e-12)
    flat = layer.weight.detach().flatten(1).double()
    found = (flat @ basis @ basis.mT).reshape(layer.weight.shape)
    assert torch.allclose(found.float(), project(layer, c, n), atol=1e-6)  # rounding of float32


@pytest.mark.parametrize(
    ("layer", "how", "message"),
    [
        (nn.ReLU(), {}, "ReLU is not a convolution"),
        (nn.ConvTranspose2d(2, 2, 3), {"n": 2}, "ConvTranspose2d is not"),
        (nn.Conv3d(2, 2, 3), {"n": 2}, "Conv3d is not"),
        (nn.Linear(4, 4), {"c": 5}, "c=5 of 4 input channels; give 1 to 4"),
        (nn.Linear(4, 4), {"c": 0}, "c=0 of 4"),
        (nn.Conv2d(4, 4, 3), {"n": 0}, "n=0; give"),
        (nn.Conv2d(4, 4, 3, groups=2), {"c": 1}, "leave c out"),
    ],
)
def test_what_is_refused(layer: nn.Module, how: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=f"^structured: .*{message}"):
        shape_of(layer, **how)
