"""Training the large network with its smaller ones, against the losses written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shoestring.compress.lsq import plus
from shoestring.compress.magnitude import apply as pruned
from shoestring.compress.magnitude import parse as zeros
from shoestring.compress.slim.network import Slimming, apply, beside, divergence, plain, resized
from shoestring.compress.slim.space import Shape, parse
from shoestring.compress.slim.views import Views, sides
from shoestring.deploy.preprocess import at_size, preprocess
from shoestring.graph.capture import capture
from shoestring.models.point_mlp import Stage

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


def test_networks_that_were_trained_before_are_open_from_the_start(slimming: Slimming) -> None:
    again = beside(slimming.views, slimming.beside, ready=True)
    for step in (lambda: None, lambda: again.on_step(0.0)):
        step()
        again.model.train()(torch.randn(2, *SHAPE))
        assert again.penalty() > 0


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


@pytest.mark.parametrize("side", [0.5, 0.25, 0.3])
def test_points_are_those_that_a_deployed_network_is_shown(side: float) -> None:
    """Of a cloud of as many points as the large one takes, along the curve."""
    spec = {"kind": "points", "points": 128, "centre": None, "scale": None, "up": "y"}
    cloud = np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)
    given = torch.from_numpy(preprocess(spec, cloud)[None])
    target = sides((128, 3), side)
    assert target[0] < 128
    found = resized(given, (128, 3), side)
    np.testing.assert_array_equal(found[0].numpy(), preprocess(at_size(spec, target), cloud))
    assert resized(given, (128, 3), 1.0) is given


def test_a_step_of_clouds_trains_fewer_points_on_the_same_weights() -> None:
    class Cloud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage, self.head = Stage(3, 32, 32, 8, 1), nn.Linear(32, 5)

        def forward(self, xyz: torch.Tensor) -> torch.Tensor:
            return self.head(self.stage(xyz, xyz.transpose(1, 2).unsqueeze(3))[1].amax((2, 3)))

    torch.manual_seed(0)
    slimming = apply(capture(Cloud(), (32, 3)), parse("w=1:d=0:n=0.5,1:r=0.5,1"))
    slimming.on_step(0.0)  # points and neighbours are there from the start
    x = torch.randn(4, 32, 3)
    wide = slimming.model.train()(x)
    view, large = slimming.views.at(Shape(1, 0, 0, 0.5, 0.5)), dict(slimming.views.gm.named_parameters())
    small = torch.func.functional_call(view.gm.train(), view.weights(large), (x[:, 1::2],))
    least = functional.kl_div(small.log_softmax(1), wide.detach().softmax(1), reduction="batchmean")
    found = slimming.penalty()
    assert isinstance(found, torch.Tensor)
    assert found.detach() >= least.detach() > 0
    found.backward()
    assert all(parameter.grad is not None for parameter in large.values())


def test_a_narrow_one_sees_the_masks_of_the_wide_one_and_nothing_behind_them_learns() -> None:
    views = Views(capture(net(), SHAPE), parse("w=0.5,1:r=1"))
    method = pruned(views.gm, {"3": zeros("4x1@50%:uniform")})
    slimming = beside(views, method)
    slimming.on_step(1.0)  # a step that sets masks
    keep = method.masks["3"].keep
    assert float(keep.float().mean()) == 0.5
    x = torch.randn(4, *SHAPE)
    slimming.model.train()
    wide = slimming.model(x)
    large = dict(views.gm.named_parameters())
    weights = {name: value.detach().clone() for name, value in views.at(Shape(0.5)).weights(large).items()}
    weights["3.weight"] = weights["3.weight"] * keep[:8, :8]
    narrow = torch.func.functional_call(views.at(Shape(0.5)).gm.train(), weights, (x,))
    expected = functional.kl_div(narrow.log_softmax(1), wide.softmax(1), reduction="batchmean")
    found = slimming.penalty()
    torch.testing.assert_close(found, expected)
    found.backward()
    gradient = dict(slimming.model.named_parameters())["gm.3.parametrizations.weight.original"].grad
    assert gradient[:8, :8][keep[:8, :8]].abs().sum() > 0
    assert gradient[~keep].abs().sum() == gradient[8:].abs().sum() == gradient[:, 8:].abs().sum() == 0
    baked = slimming.bake()
    assert not baked.get_parameter("3.weight")[~keep].any()


def test_grids_of_each_are_parameters_and_all_have_gradients() -> None:
    """Whatever is drawn: processes average the gradients of the same parameters."""
    views = Views(capture(net(), SHAPE), parse("w=0.25,0.5,0.75,1:r=1"), 4)
    slimming = beside(views, plus.apply(views.gm, dict.fromkeys(["0", "3", "7"], plus.parse("w4a4"))))
    inputs = [np.random.default_rng(i).normal(0, 1, (1, *SHAPE)).astype(np.float32) for i in range(8)]
    slimming.settle(inputs)
    slimming.on_step(1.0)
    assert len(slimming.model.own) == 3
    learning = {name: p for name, p in slimming.model.named_parameters() if p.requires_grad}
    steps = [name for name in learning if name.startswith("own.") and name.endswith("step")]
    assert len(steps) == 3 * sum(name.endswith(".step") and name.startswith("gm.") for name in learning)
    slimming.model.train()
    loss = slimming.model(torch.randn(4, *SHAPE)).square().mean()
    (loss + slimming.penalty()).backward()
    assert all(parameter.grad is not None for parameter in learning.values())
    drawn = [
        any(p.grad.abs().sum() > 0 for p in module.parameters() if p.grad is not None) for module in slimming.model.own
    ]
    assert drawn[-1]  # the smallest, always
    slimming.freeze()
    assert not any(p.requires_grad for name, p in slimming.model.named_parameters() if name.endswith("offset"))


def test_masks_are_computed_once_a_step() -> None:
    views = Views(capture(net(), SHAPE), parse("w=0.5,1:r=1"))
    method = pruned(views.gm, {"3": zeros("4x1@50%:uniform")})
    slimming = beside(views, method)
    slimming.on_step(1.0)
    called: list[int] = []
    method.masks["3"].register_forward_hook(lambda *_: called.append(1))
    slimming.model.train()(torch.randn(2, *SHAPE))
    slimming.penalty()
    assert len(called) == 1


def test_names_of_what_does_not_decay_are_those_of_the_model() -> None:
    from shoestring.compress.ltp import blocks

    views = Views(capture(net(), SHAPE), parse("w=0.5,1:r=1"))
    slimming = beside(views, blocks.apply(views.gm, {"0": blocks.parse("4x1@50%")}))
    assert slimming.undecayed() == {"gm.0.parametrizations.weight.original"}
    assert slimming.undecayed() < dict(slimming.model.named_parameters()).keys()
