"""The shared CIFAR-10 network: its size counted by hand, its graph traced, its checkpoint loaded."""

from pathlib import Path

import pytest
import torch

from shoestring.models.cifar_mobilenet import cifar_mobilenet
from shoestring.models.weights import load_weights

CHECKPOINT = Path(__file__).parents[2] / "benchmarks" / "checkpoints" / "cifar_mobilenet.safetensors"


def parameters_by_hand() -> int:
    """From the table in the module's docstring: a convolution and two numbers a channel of its batch norm."""

    def conv(inputs: int, outputs: int, kernel: int = 1) -> int:
        return inputs * outputs * kernel * kernel + 2 * outputs

    count, inputs = conv(3, 32, 3), 32
    for blocks, channels in ((2, 32), (4, 96), (3, 192)):
        for _ in range(blocks):
            hidden = 3 * inputs
            count += conv(inputs, hidden) + (9 * hidden + 2 * hidden) + conv(hidden, channels)
            inputs = channels
    return count + conv(inputs, 512) + 512 * 10 + 10


def test_size() -> None:
    model = cifar_mobilenet()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters_by_hand()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert cifar_mobilenet(7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_activations_are_swish_and_it_traces() -> None:
    model = cifar_mobilenet().eval()
    kinds = {type(module) for module in model.modules() if not list(module.children())}
    assert torch.nn.SiLU in kinds and torch.nn.ReLU not in kinds
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="the checkpoint is not in this copy")
def test_the_checkpoint_fits() -> None:
    model = cifar_mobilenet()
    load_weights(model, CHECKPOINT)
    assert CHECKPOINT.stat().st_size <= 4_000_000
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.stem[1].running_var.std() > 0  # batch norm has seen pictures
