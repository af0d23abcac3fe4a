"""Training the large network with its smaller ones, against the losses written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shoestring.compress.slim.network import Slimming, apply, divergence, plain, resized
from shoestring.compress.slim.space import Shape, parse
from shoestring.graph.capture import capture

SHAPE = (3, 16, 16)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


@pytest.fixture
def slimming() -> Slimming:
    return apply(capture(net(), SHAPE), parse("w=0.5,1:r=1"))


def test_a_step_adds_what_the_narrow_one_is_away_from_the_wide_one(slimming: Slimming) -> None:
    slimming.on_step(1.0)
    x = torch.randn(4, *SHAPE)
    slimming.model.train()
    wide = slimming.model(x)
    view = slimming.views.at(Shape(0.5))
    large = dict(slimming.views.gm.named_parameters())
    weights = {name: value.detach().clone() for name, value in view.weights(large).items()}
    narrow = torch.func.functional_call(view.gm.train(), weights, (x,))
    expected = functional.kl_div(narrow.log_softmax(1), wide.softmax(1), reduction="batchmean")
    found = slimming.penalty()
    torch.testing.assert_close(found, expected)
    assert slimming.penalty() == 0.0  # once a step


def test_the_wide_one_learns_nothing_from_the_narrow_one_but_the_shared_part(slimming: Slimming) -> None:
    slimming.on_step(1.0)
    slimming.model.train()
    slimming.model(torch.randn(4, *SHAPE))
    penalty = slimming.penalty()
    assert isinstance(penalty, torch.Tensor)
    penalty.backward()
    gradient = slimming.views.gm.get_parameter("3.weight").grad
    assert gradient is not None
    assert gradient[:8, :8].abs().sum() > 0
    assert gradient[8:].abs().sum() == gradient[:, 8:].abs().sum() == 0


def test_before_widths_open_there_is_the_wide_one_alone(slimming: Slimming) -> None:
    slimming.on_step(0.0)
    slimming.model.train()
    slimming.model(torch.randn(2, *SHAPE))
    assert slimming.penalty() == 0.0


def test_in_eval_nothing_is_remembered(slimming: Slimming) -> None:
    slimming.model.eval()(torch.randn(2, *SHAPE))
    assert slimming.penalty() == 0.0


def test_divergence_against_scipy() -> None:
    from scipy.stats import entropy

    a, b = np.random.default_rng(0).normal(size=(2, 6, 5))
    soft = [np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (a, b)]
    found = divergence(torch.from_numpy(b), torch.from_numpy(a))
    assert float(found) == pytest.approx(np.mean([entropy(p, q) for p, q in zip(*soft, strict=True)]))


def test_a_network_of_its_own_has_statistics_of_its_own(slimming: Slimming) -> None:
    inputs = [np.random.default_rng(i).normal(i, 1, (1, *SHAPE)).astype(np.float32) for i in range(6)]
    small = plain(slimming.views, Shape(0.5), inputs)
    weight = slimming.views.gm.get_parameter("0.weight").detach()[:8]
    torch.testing.assert_close(small.get_parameter("0.weight").detach(), weight)
    read = functional.conv2d(torch.from_numpy(np.concatenate(inputs)), weight, stride=2, padding=1).numpy()
    norm = small.get_submodule("1")
    np.testing.assert_allclose(norm.running_mean.numpy(), read.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), read.var((0, 2, 3), ddof=1), rtol=1e-4)
    assert norm.momentum == 0.1
    assert not small.training
    assert small(torch.zeros(1, *SHAPE)).shape == (1, 5)


def test_training_brings_the_narrow_one_closer() -> None:
    torch.manual_seed(0)
    loud = net()
    nn.init.normal_(loud[-1].weight, std=5.0)
    slimming = apply(capture(loud, SHAPE), parse("w=0.5,1:r=1"))
    slimming.on_step(1.0)
    optimiser = torch.optim.SGD(slimming.model.parameters(), 0.05)
    losses = []
    for _ in range(60):
        slimming.model.train()(torch.randn(32, *SHAPE))
        penalty = slimming.penalty()
        assert isinstance(penalty, torch.Tensor)
        penalty.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(penalty.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_sizes() -> None:
    x = torch.randn(2, 3, 32, 32)
    assert resized(x, (3, 32, 32), 1.0) is x
    half = resized(x, (3, 32, 32), 0.5)
    assert half.shape == (2, 3, 16, 16)
    assert half.mean() == pytest.approx(float(x.mean()), abs=0.02)
