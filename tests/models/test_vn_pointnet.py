"""Vector neurons: every layer turns with its input, and the network knows no direction."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from shoestring.models.vn_pointnet import VNBatchNorm, VNInvariant, VNLinear, VNMaxPool, VNPointNet, VNReLU


def turn(seed: int) -> Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix().astype(np.float32))


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def settle(model: nn.Module, *shape: int) -> nn.Module:
    """Norms with statistics of their own, as after training."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data.uniform_(0.5, 1.5)
            module.momentum = None
    model.train()
    for _ in range(3):
        model(torch.randn(shape))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", [VNLinear, VNReLU, VNBatchNorm, VNMaxPool])
def test_a_layer_turns_with_its_input(kind: type[nn.Module]) -> None:
    layer = settle(VNLinear(6, 5) if kind is VNLinear else kind(6), 4, 6, 3, 20)
    x = torch.randn(2, 6, 3, 20)
    for seed in range(5):
        rotation = turn(seed)
        turned = torch.einsum("ij,bcjn->bcin", rotation, x)
        wanted = torch.einsum("ij,bcj...->bci...", rotation, layer(x))
        assert relative(layer(turned), wanted) < 1e-5


@torch.no_grad()
def test_the_invariant_layer_does_not_turn() -> None:
    layer = settle(VNInvariant(6), 4, 6, 3, 20)
    x = torch.randn(2, 6, 3, 20)
    for seed in range(5):
        assert relative(layer(torch.einsum("ij,bcjn->bcin", turn(seed), x)), layer(x)) < 1e-5


@torch.no_grad()
def test_the_network_is_invariant_and_its_vectors_equivariant() -> None:
    model = settle(VNPointNet(7, width=8), 8, 64, 3)
    xyz = torch.randn(3, 128, 3)
    logits, vectors = model(xyz), model.vectors(xyz)
    assert vectors.shape == (3, 32, 3, 128) and logits.shape == (3, 7)
    assert float(logits.std(0).min()) > 1e-3  # they tell clouds apart
    for seed in range(10):
        turned = xyz @ turn(seed).T + torch.tensor([0.5, -1.0, 2.0])
        assert relative(model.vectors(turned), torch.einsum("ij,bcjn->bcin", turn(seed), vectors)) < 1e-5
        assert relative(model(turned), logits) < 1e-5


@torch.no_grad()
def test_the_order_of_points_does_not_matter() -> None:
    model = settle(VNPointNet(7, width=8), 8, 64, 3)
    xyz = torch.randn(2, 100, 3)
    assert relative(model(xyz[:, torch.randperm(100)]), model(xyz)) < 1e-5


def test_relu_cuts_what_points_against_its_direction() -> None:
    layer = VNReLU(1, slope=0.0)
    layer.direction.weight.data.fill_(-1.0)  # each vector's direction is its own opposite
    x = torch.randn(1, 1, 3, 9)
    assert layer(x).abs().max() < 1e-4
    layer.direction.weight.data.fill_(1.0)
    assert torch.equal(layer(x), x)


def test_trained_on_one_pose_it_knows_shapes_in_every_pose() -> None:
    """Rods, discs and balls."""
    random = np.random.default_rng(0)
    stretch = np.array([[2, 0.2, 0.2], [1.5, 1.5, 0.1], [1, 1, 1]])
    labels = torch.arange(24) % 3
    clouds = torch.from_numpy((random.standard_normal((24, 64, 3)) * stretch[labels][:, None]).astype(np.float32))
    torch.manual_seed(0)
    model = VNPointNet(3, width=6).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.5  # the run is shorter than the memory of the default
    optimiser = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(clouds), labels).backward()
        optimiser.step()
    with torch.no_grad():
        right = (model.eval()(clouds @ turn(3).T).argmax(1) == labels).float().mean()
    assert right > 0.9
