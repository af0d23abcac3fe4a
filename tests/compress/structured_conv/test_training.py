"""Drawn towards structure, then put there: what training sees of it."""

import numpy as np
import pytest
import torch
from torch import fx, nn

from shoestring.compress.structured_conv.loss import residual
from shoestring.compress.structured_conv.shape import Shape, shape_of
from shoestring.compress.structured_conv.training import Structuring, structuring
from shoestring.graph.capture import capture

INPUT = (3, 8, 8)


@pytest.fixture
def net() -> fx.GraphModule:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    return capture(layers, INPUT)


def at_work(net: fx.GraphModule, strength: float = 0.1) -> Structuring:
    return structuring(net, {path: shape_of(net.get_submodule(path), n=2) for path in ("0", "3")}, strength)


def inputs() -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((1, *INPUT), np.float32) for seed in range(3)]


def test_before_it_is_put_there_only_the_penalty_acts(net: fx.GraphModule) -> None:
    applied = at_work(net)
    applied.settle(inputs())
    x = torch.randn(2, *INPUT)
    torch.testing.assert_close(applied.model(x), net(x), rtol=0, atol=0)
    assert not applied.structured
    weights: list[torch.Tensor] = [net.get_submodule(path).weight.detach() for path in applied.shapes]  # type: ignore[misc]
    rest = sum(float(residual(w, shape)) for w, shape in zip(weights, applied.shapes.values(), strict=True))
    penalty = applied.penalty()
    assert isinstance(penalty, torch.Tensor)
    assert penalty.item() == pytest.approx(0.1 * rest)
    assert applied.status() == f"residual of structure {rest / 2:.3f}"


def test_once_put_there_training_stays_there(net: fx.GraphModule) -> None:
    applied = at_work(net)
    applied.settle(inputs())
    applied.on_step(0.5)
    applied.freeze()
    assert applied.structured
    assert applied.penalty() == 0.0
    assert applied.status() == ""
    optimiser = torch.optim.SGD(applied.model.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        applied.model.train()(torch.randn(4, *INPUT)).square().mean().backward()
        optimiser.step()
    x = torch.randn(2, *INPUT)
    baked = applied.bake()
    with torch.no_grad():
        torch.testing.assert_close(baked.eval()(x), applied.model.eval()(x), rtol=1e-5, atol=1e-5)
    assert baked.get_submodule("3").weight.shape == (4, 4, 2, 2)  # type: ignore[union-attr]
    for path, shape in applied.shapes.items():
        weight: torch.Tensor = applied.model.get_submodule(path).weight  # type: ignore[assignment]
        assert float(residual(weight.detach(), shape)) < 1e-6


def test_without_lambda_it_is_put_there_at_once(net: fx.GraphModule) -> None:
    applied = at_work(net, 0.0)
    applied.settle(inputs())
    assert applied.structured
    assert len(applied.residuals) == 1


def test_what_is_written_down(net: fx.GraphModule) -> None:
    applied = at_work(net)
    applied.settle(inputs())
    for step in range(1, 201):
        applied.on_step(step / 200)
    assert list(applied.residuals) == [tick / 20 for tick in range(21)]
    assert all(0.3 < value < 1 for found in applied.residuals.values() for value in found.values())
    with torch.no_grad():
        expected = applied.model.eval()(torch.from_numpy(np.concatenate(inputs())))
        applied.freeze()
        found = applied.model(torch.from_numpy(np.concatenate(inputs())))
    moved = float((found - expected).abs().mean() / expected.std())
    assert applied.moved == pytest.approx(moved, rel=1e-5)
    (told,) = applied.told()
    assert told.startswith("Structure: 2 layers are a sum and a smaller layer.")
    assert f"moved the outputs by {100 * moved:.2g} %" in told
    log = applied.log()
    assert log["lambda"] == 0.1
    assert set(log["residuals"]["0.0000"]) == {"0", "3"}  # type: ignore[index]


def test_modes_are_as_they_were(net: fx.GraphModule) -> None:
    applied = at_work(net)
    applied.settle(inputs())
    applied.model.train()
    applied.model.get_submodule("1").eval()
    applied.freeze()
    assert applied.model.training
    assert not applied.model.get_submodule("1").training


def test_nothing_to_do(net: fx.GraphModule) -> None:
    applied = structuring(net, {}, 0.1)
    applied.settle(inputs())
    assert applied.told() == ()
    assert isinstance(applied.bake(), fx.GraphModule)
    assert Shape(3, (3, 3), 3, (3, 3)).changes is False


def test_a_run_that_goes_on_remembers(net: fx.GraphModule) -> None:
    """As a restored run does it: it is stepped and frozen first, from other weights, and its state is read then."""
    one = at_work(net)
    one.settle(inputs())
    with torch.no_grad():
        for path in one.shapes:
            one.model.get_submodule(path).parametrizations.weight.original.mul_(torch.rand(4, 1, 3, 3))  # type: ignore[union-attr,index]
    one.on_step(0.5)
    one.freeze()
    other = at_work(net)
    other.settle(inputs())
    other.on_step(0.75)
    other.freeze()
    other.model.load_state_dict(one.model.state_dict())
    assert other.log() == one.log()
    assert other.told() == one.told()
