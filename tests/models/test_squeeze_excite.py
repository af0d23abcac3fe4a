"""Squeeze-and-excitation against the paper's equations in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.models.squeeze_excite import SqueezeExcite

GATES = {
    nn.Sigmoid: lambda x: 1 / (1 + np.exp(-x)),
    nn.Hardsigmoid: lambda x: np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("gate", GATES)
def test_equations(gate: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer = SqueezeExcite(6, 2, nn.ReLU(), gate()).double()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    w1, b1, w2, b2 = (value.numpy().squeeze() for value in layer.state_dict().values())
    z = x.numpy().sum((2, 3)) / 20
    scale = GATES[gate](np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)
    with torch.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), x.numpy() * scale[:, :, None, None], rtol=1e-12)
