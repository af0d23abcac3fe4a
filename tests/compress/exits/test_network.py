"""What exits learn, and what they start from."""

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from shoestring.compress.exits.network import Exiting, apply
from shoestring.compress.exits.settings import parse


@pytest.fixture
def exiting(branched: fx.GraphModule) -> Exiting:
    return apply(branched, parse("at=stem,mul"))


@pytest.fixture
def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((1, 3, 8, 8)) + rng.normal(0, 1)).astype(np.float32) for _ in range(128)]


def test_the_penalty_is_the_divergence_of_each_exit_from_the_last_layer(exiting: Exiting) -> None:
    x = torch.randn(6, 3, 8, 8)
    assert exiting.model.eval()(x).shape == (6, 4)
    assert exiting.penalty() == 0.0  # outside of training there is none
    exiting.model.train()
    torch.manual_seed(3)
    outputs = exiting.model(x)
    found = exiting.penalty()
    torch.manual_seed(3)  # the same dropout
    target, *exits = exiting.gm(x)
    torch.testing.assert_close(outputs, target)
    soft = functional.softmax(target, 1)
    by_hand = sum((soft * (soft.log() - functional.softmax(one, 1).log())).sum(1).mean() for one in exits)
    torch.testing.assert_close(found, by_hand)
    assert exiting.penalty() == 0.0  # once for each pass


def test_the_last_layer_does_not_follow_its_exits(exiting: Exiting) -> None:
    exiting.model.train()(torch.randn(6, 3, 8, 8))
    found = exiting.penalty()
    assert isinstance(found, torch.Tensor)
    found.backward()
    assert exiting.gm.get_submodule("classifier").weight.grad is None
    assert exiting.gm.get_submodule("stem.0").weight.grad.abs().sum() > 0
    assert exiting.gm.get_submodule("exit_1.classifier").weight.grad.abs().sum() > 0


def test_settled_exits_are_the_nearest_in_least_squares(exiting: Exiting, inputs: list[np.ndarray]) -> None:
    exiting.settle(inputs)
    gm = exiting.bake()
    x = torch.from_numpy(np.concatenate(inputs))
    with torch.no_grad():
        target, *exits = gm(x)
    for index, found in enumerate(exits):
        head = gm.get_submodule(f"exit_{index}")
        if index == 0:
            stem = [gm.get_submodule(f"stem.{layer}") for layer in range(3)]
            mixed = head.get_submodule("mix")(nn.Sequential(*stem)(x))
            torch.testing.assert_close(
                head.get_submodule("norm").running_mean, mixed.mean((0, 2, 3)), atol=1e-4, rtol=1e-3
            )
            assert head.get_submodule("norm").momentum == 0.1
        nothing = (target - target.mean(0)).square().sum()
        assert (found - target).square().sum() < 0.8 * nothing
        torch.testing.assert_close(found.mean(0), target.mean(0), atol=1e-3, rtol=1e-3)
