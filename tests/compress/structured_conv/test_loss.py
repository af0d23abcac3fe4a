"""The regulariser: its value for kernels of independent numbers, for structured ones, and where it pulls."""

import pytest
import torch
from torch import nn

from shoestring.compress.structured_conv.decompose import project
from shoestring.compress.structured_conv.loss import penalty, residual, structural_loss
from shoestring.compress.structured_conv.shape import shape_of
from shoestring.core.errors import BadInput


@pytest.mark.parametrize(
    ("layer", "c", "n", "expected"),
    [
        (nn.Conv2d(128, 128, 3), None, 2, (1 - 4 / 9) ** 0.5),
        (nn.Conv2d(128, 128, 3), 64, 2, (1 - 0.5 * 4 / 9) ** 0.5),
        (nn.Linear(512, 512), 256, None, 0.5**0.5),
    ],
)
def test_where_independent_numbers_begin(layer: nn.Module, c: int | None, n: int | None, expected: float) -> None:
    weight = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    assert float(residual(weight, shape_of(layer, c, n))) == pytest.approx(expected, abs=0.01)


def test_nothing_is_left_of_structured_weights() -> None:
    layer = nn.Conv2d(8, 8, 3)
    layer.weight.data = project(layer, n=2)
    found = residual(layer.weight, shape_of(layer, n=2))
    assert float(found.detach()) < 1e-6
    found.backward()
    assert torch.isfinite(layer.weight.grad).all()  # type: ignore[union-attr]


def test_the_loss_of_a_model_is_the_sum_over_its_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 8))
    three, one, dw, linear = model
    parts = {"0": shape_of(three, n=2), "2": shape_of(dw, n=2)}
    torch.testing.assert_close(structural_loss(model), penalty(model, parts))
    parts |= {"1": shape_of(one, 4), "3": shape_of(linear, 4)}
    torch.testing.assert_close(structural_loss(model, c=0.5), penalty(model, parts))
    by_hand = sum(float(residual(model.get_submodule(path).weight, shape).detach()) for path, shape in parts.items())  # type: ignore[arg-type]
    assert float(structural_loss(model, c=0.5).detach()) == pytest.approx(by_hand, rel=1e-6)


def test_descending_it_leads_to_structure() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(4, 4, 3)
    optimiser = torch.optim.SGD(model.parameters(), 0.02)
    for _ in range(300):
        optimiser.zero_grad()
        structural_loss(model).backward()
        optimiser.step()
    assert float(structural_loss(model).detach()) < 0.05


def test_a_model_without_such_layers() -> None:
    with pytest.raises(BadInput, match="no layer for n=2, c=None; give c"):
        structural_loss(nn.Linear(3, 3))
