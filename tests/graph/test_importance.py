"""What a channel is worth, by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.graph.capture import capture
from shoestring.graph.channels import IN, OUT, Cell
from shoestring.graph.importance import energies, importance


def test_squares_of_what_makes_and_reads_a_channel_with_norms_folded_in() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3, eps=0.0), nn.ReLU(), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(6.0).reshape(3, 2, 1, 1))
        net[1].weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        net[3].weight.copy_(torch.ones(2, 3, 1, 1))
    found = energies(capture(net.eval(), (2, 4, 4)))
    assert found["0", OUT].tolist() == pytest.approx([1, 4 * 13, 0.25 * 41])
    assert found["3", IN].tolist() == pytest.approx([2, 2, 2])
    whole = Cell({("0", OUT): np.arange(3)[:, None], ("3", IN): np.arange(3)[:, None]})
    norms = np.sqrt([3, 54, 12.25])
    assert importance(whole, found) == pytest.approx(norms / norms.mean())
