"""Each part of the loss against NumPy and SciPy in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.train.distil import criterion, feature_loss, hard_loss, soft_loss, watch
from shoestring.train.recipe import Recipe

RNG = np.random.default_rng(0)
OURS, THEIRS = RNG.normal(0, 3, (2, 5, 7))
LABELS = np.array([3, -1, 0, 6, -1])


def divergence(ours: np.ndarray, theirs: np.ndarray, temperature: float) -> float:
    p, q = softmax(theirs / temperature, 1), softmax(ours / temperature, 1)
    return float(temperature**2 * rel_entr(p, q).sum(1).mean())


def entropy(ours: np.ndarray) -> float:
    return float(-sum(log_softmax(row)[label] for row, label in zip(ours, LABELS, strict=True) if label >= 0) / 5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_loss(temperature: float) -> None:
    found = soft_loss(torch.tensor(OURS), torch.tensor(THEIRS), temperature)
    assert found.item() == pytest.approx(divergence(OURS, THEIRS, temperature), rel=1e-12)


def test_soft_loss_of_maps_is_the_mean_over_places() -> None:
    ours, theirs = RNG.normal(0, 3, (2, 2, 7, 3, 4))
    places = [a.transpose(0, 2, 3, 1).reshape(-1, 7) for a in (ours, theirs)]
    found = soft_loss(torch.tensor(ours), torch.tensor(theirs), 2.0)
    assert found.item() == pytest.approx(divergence(*places, 2.0), rel=1e-12)


def test_a_certain_teacher_gives_no_nan() -> None:
    ours = torch.tensor([[0.0, 1.0]], requires_grad=True)
    soft_loss(ours, torch.tensor([[1e4, -1e4]]), 1.0).backward()
    assert ours.grad is not None
    assert ours.grad.numpy() == pytest.approx(softmax([[0.0, 1.0]], 1) - [[1, 0]])


def test_hard_loss_passes_over_what_has_no_label() -> None:
    assert hard_loss(torch.tensor(OURS), torch.tensor(LABELS)).item() == pytest.approx(entropy(OURS), rel=1e-12)
    assert hard_loss(torch.tensor(OURS), torch.full((5,), -1)).item() == 0


def test_feature_loss_is_in_units_of_the_teachers_variance() -> None:
    found = feature_loss(torch.tensor(OURS), torch.tensor(THEIRS)).item()
    assert found == pytest.approx(((OURS - THEIRS) ** 2).mean() / np.var(THEIRS), rel=1e-12)
    constant = torch.full((5, 7), THEIRS.mean())
    assert feature_loss(constant, torch.tensor(THEIRS)).item() == pytest.approx(1)
    assert feature_loss(torch.zeros(3), torch.zeros(3)).item() == 0


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7)).double() for _ in range(2)]
    return made[0], made[1]


def outputs(model: Any, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the layers 0 and 2 give."""
    w, b, v, c = (parameter.detach().numpy() for parameter in model.parameters())
    hidden = inputs @ w.T + b
    return hidden, np.maximum(hidden, 0) @ v.T + c


@pytest.mark.parametrize(
    ("distil", "features", "weights"),
    [(1, (), (1, 0, 0)), (0.3, (), (0.3, 0.7, 0)), (0.3, ("0", "2"), (0.3, 0.7, 2)), (0, ("0", "2"), (0, 1, 2))],
)
def test_criterion_weighs_the_parts(distil: float, features: tuple[str, ...], weights: tuple[float, ...]) -> None:
    model, teacher = pair()
    inputs = RNG.normal(0, 1, (5, 6))
    (h, y), (k, z) = outputs(model, inputs), outputs(teacher, inputs)
    shift = np.mean([((h - k) ** 2).mean() / k.var(), ((y - z) ** 2).mean() / z.var()])
    expected = np.dot(weights, [divergence(y, z, 3.0), entropy(y), shift])
    recipe = Recipe(1, distil=distil, features=features, feature_weight=2, temperature=3)
    with criterion(model, teacher, recipe) as loss:
        found = loss(torch.tensor(inputs), torch.tensor(LABELS))
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(module._forward_hooks for network in (model, teacher) for module in network.modules())


def test_a_teacher_without_a_say_is_not_run() -> None:
    model, teacher = pair()
    teacher.register_forward_hook(lambda *_: pytest.fail("was run"))
    inputs = RNG.normal(0, 1, (5, 6))
    for silent, recipe in ((None, Recipe(1)), (teacher, Recipe(1, distil=0))):
        with criterion(model, silent, recipe) as loss:
            found = loss(torch.tensor(inputs), torch.tensor(LABELS)).item()
        assert found == pytest.approx(entropy(outputs(model, inputs)[1]), rel=1e-12)


@pytest.mark.parametrize("name", ["laier", ""])
def test_an_unknown_feature_is_refused(name: str) -> None:
    model = nn.ModuleDict({"layer": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    with pytest.raises(BadInput, match=rf"features: '{name}' is no module .*layer"), watch(model, [name]):
        pass


class Idle(nn.Sequential):
    """Has a module that it does not run."""

    def forward(self, x: Tensor) -> Tensor:
        return self[0](x)


def test_a_feature_that_cannot_be_compared_is_refused() -> None:
    inputs, labels = torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64)
    model, narrow = Idle(nn.Linear(6, 5), nn.Linear(5, 7)), Idle(nn.Linear(6, 1), nn.Linear(1, 7))
    with criterion(model, narrow, Recipe(1, features=("0",))) as loss, pytest.raises(BadInput, match=r"\[2, 1\] in"):
        loss(inputs, labels)
    with criterion(model, model, Recipe(1, features=("1",))) as loss, pytest.raises(BadInput, match="'1' is not run"):
        loss(inputs, labels)
