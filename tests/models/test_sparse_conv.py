"""Sparse convolutions against torch's dense ones on the same cells: values and gradients."""

import torch
from torch import Tensor
from torch.nn import functional as F

from shoestring.geometry.rulebook import coarser, neighbours
from shoestring.models.sparse_conv import InverseConv3d, SparseConv3d

SIDE = 6


def scene(channels: int = 5) -> tuple[Tensor, Tensor]:
    """A third of the cells of two cubes, and their features in double."""
    torch.manual_seed(0)
    cells = torch.nonzero(torch.rand(2, SIDE, SIDE, SIDE) < 0.35)
    return cells, torch.randn(len(cells), channels, dtype=torch.float64, requires_grad=True)


def dense(x: Tensor, cells: Tensor, side: int = SIDE) -> Tensor:
    b, i, j, k = cells.unbind(1)
    volume = x.new_zeros(2, side, side, side, x.shape[1]).index_put((b, i, j, k), x)
    return volume.permute(0, 4, 1, 2, 3)


def at(volume: Tensor, cells: Tensor) -> Tensor:
    b, i, j, k = cells.unbind(1)
    return volume.permute(0, 2, 3, 4, 1)[b, i, j, k]


def kernel(weight: Tensor, side: int) -> Tensor:
    """[taps, cin, cout] to torch's [cout, cin, side, side, side]."""
    return weight.reshape(side, side, side, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def agree(found: Tensor, wanted: Tensor, x: Tensor, weight: Tensor) -> None:
    torch.testing.assert_close(found, wanted)
    direction = torch.randn_like(wanted)
    ours = torch.autograd.grad((found * direction).sum(), (x, weight))
    theirs = torch.autograd.grad((wanted * direction).sum(), (x, weight))
    torch.testing.assert_close(ours, theirs)


def test_submanifold_is_the_dense_one_where_cells_are() -> None:
    cells, x = scene()
    conv = SparseConv3d(5, 4, 27).double()
    found = conv(x, neighbours(cells), len(cells))
    wanted = at(F.conv3d(dense(x, cells), kernel(conv.weight, 3), padding=1), cells)
    agree(found, wanted, x, conv.weight)


def test_strided_is_the_dense_one() -> None:
    cells, x = scene()
    above, rules = coarser(cells)
    conv = SparseConv3d(5, 4, 8).double()
    found = conv(x, rules, len(above))
    wanted = at(F.conv3d(dense(x, cells), kernel(conv.weight, 2), stride=2), above)
    agree(found, wanted, x, conv.weight)


def test_inverse_is_the_dense_transposed_one_where_cells_were() -> None:
    cells, _ = scene()
    above, rules = coarser(cells)
    x = torch.randn(len(above), 4, dtype=torch.float64, requires_grad=True)
    conv = InverseConv3d(4, 3, 8).double()
    found = conv(x, rules, len(cells))
    transposed = kernel(conv.weight, 2).transpose(0, 1)
    wanted = at(F.conv_transpose3d(dense(x, above, SIDE // 2), transposed, stride=2), cells)
    agree(found, wanted, x, conv.weight)


def test_a_tap_that_meets_nobody_has_no_gradient() -> None:
    cells = torch.tensor([[0, 0, 0, 0]])
    conv = SparseConv3d(2, 2, 27)
    conv(torch.ones(1, 2), neighbours(cells), 1).sum().backward()
    used = torch.nonzero(conv.weight.grad.abs().sum((1, 2))).flatten()
    assert used.tolist() == [13]
