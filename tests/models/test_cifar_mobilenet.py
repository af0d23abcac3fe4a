"""The shared CIFAR-10 network against numbers worked out from its table; its graph traced, its checkpoint loaded."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shoestring.models.cifar_mobilenet import cifar_mobilenet
from shoestring.models.weights import load_weights

CHECKPOINT = Path(__file__).parents[2] / "benchmarks" / "checkpoints" / "cifar_mobilenet.safetensors"
# (inputs, outputs, side of the map before the depthwise layer, stride) of each block
BLOCKS = [(32, 32, 16, 1)] * 2 + [(32, 96, 16, 2)] + [(96, 96, 8, 1)] * 3 + [(96, 192, 8, 2)] + [(192, 192, 4, 1)] * 2


def test_parameters_and_macs_by_hand() -> None:
    """Convolutions without bias, a batch norm (two parameters a channel) behind each, one linear layer."""
    weights, norms, macs = 3 * 32 * 9, 32, 16 * 16 * 3 * 32 * 9
    for inputs, outputs, side, stride in BLOCKS:
        hidden, small = 3 * inputs, side // stride
        weights += inputs * hidden + hidden * 9 + hidden * outputs
        norms += 2 * hidden + outputs
        macs += side**2 * inputs * hidden + small**2 * hidden * (9 + outputs)
    weights, norms, macs = weights + 192 * 512, norms + 512, macs + 4 * 4 * 192 * 512 + 512 * 10
    model = cifar_mobilenet().eval()
    assert sum(p.numel() for p in model.parameters()) == weights + 2 * norms + 512 * 10 + 10
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize(("side", "classes"), [(32, 10), (64, 100), (8, 2), (40, 7)])
def test_shapes(side: int, classes: int) -> None:
    model = cifar_mobilenet(classes).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, side, side)).shape == (2, classes)


def test_blocks_add_their_input_where_shapes_agree() -> None:
    model = cifar_mobilenet()
    expected = [inputs == outputs and stride == 1 for inputs, outputs, _, stride in BLOCKS]
    assert [block.residual for block in model.blocks] == expected
    block = model.blocks[0].eval()
    nn.init.zeros_(block.project[1].weight)
    x = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(block(x), x)


def test_swish_everywhere_but_behind_projections() -> None:
    model = cifar_mobilenet()
    assert sum(isinstance(module, nn.SiLU) for module in model.modules()) == 2 + 2 * len(BLOCKS)
    for block in model.blocks:
        assert [type(module) for module in block.project] == [nn.Conv2d, nn.BatchNorm2d]


def test_it_traces() -> None:
    model = cifar_mobilenet().eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="the checkpoint is not in this copy")
def test_the_checkpoint_fits() -> None:
    model = cifar_mobilenet()
    load_weights(model, CHECKPOINT)
    assert CHECKPOINT.stat().st_size <= 4_000_000
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.stem[1].running_var.std() > 0  # batch norm has seen pictures
