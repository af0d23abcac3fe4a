"""Channels last where it runs, without a change of results."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shoestring.train.layout import choose_layout, lay_out


class Flat(nn.Module):
    """A view that channels last cannot give."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1)


def net(flatten: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), flatten(), nn.Linear(16, 2)).eval()


@pytest.mark.parametrize(
    ("flatten", "layout"), [(nn.Flatten, torch.channels_last), (Flat, torch.contiguous_format)], ids=["flatten", "view"]
)
def test_it_is_taken_where_all_networks_run_so(flatten: type[nn.Module], layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 6)
    models = [net(nn.Flatten), net(flatten)]
    before = [model(x) for model in models]
    assert choose_layout(models, x) is layout
    for model, expected in zip(models, before, strict=True):
        assert all(p.is_contiguous(memory_format=layout) for p in model.parameters() if p.ndim == 4)
        torch.testing.assert_close(model(x.to(memory_format=layout)), expected)
    lay_out(models, torch.contiguous_format)
    assert all(p.is_contiguous() for model in models for p in model.parameters())


def test_what_has_no_channels_is_left() -> None:
    model = nn.Linear(3, 2)
    assert choose_layout([model], torch.zeros(4, 3)) is torch.preserve_format
    assert torch.zeros(4, 3).to(memory_format=torch.preserve_format).shape == (4, 3)


def test_parameters_stay_the_same_objects() -> None:
    """An optimiser, or a hook, may hold them."""
    model = net(nn.Flatten)
    before = [id(p) for p in model.parameters()]
    choose_layout([model], torch.zeros(2, 3, 6, 6))
    assert [id(p) for p in model.parameters()] == before
