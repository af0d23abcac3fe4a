"""Steps against the formulas in NumPy (float64), freezing, and what a state brings back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.train.processes import World
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks, Run

RECIPE = Recipe(epochs=2, lr=0.5, momentum=0.8, weight_decay=0.1, ema=0.5, warmup=0.2, frozen=0.2)
RNG = np.random.default_rng(0)
GRADIENTS = [(RNG.normal(size=(2, 3)), RNG.normal(size=2)) for _ in range(10)]


def started(model: nn.Module, recipe: Recipe = RECIPE, hooks: Hooks | None = None) -> Run:
    return Run(model, recipe, hooks or Hooks(), per_epoch=5, world=World(torch.device("cpu")))


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


def slope(model: nn.Linear, step: int) -> torch.Tensor:
    """A loss whose gradients are GRADIENTS[step]."""
    weight, bias = map(torch.tensor, GRADIENTS[step])
    return (model.weight * weight).sum() + (model.bias * bias).sum()


def test_ten_steps() -> None:
    """Nesterov as Sutskever et al. 2013 in the form of torch's documentation; decay of the weight, none of the bias."""
    model = linear()
    values = [p.detach().numpy().copy() for p in model.parameters()]
    averages, speeds = [v.copy() for v in values], [np.zeros_like(v) for v in values]
    run = started(model)
    for step in range(10):
        rate = RECIPE.rate(step, 10)
        keep = min(0.5, (step + 1) / (step + 10))
        for i, decay in enumerate((0.1, 0.0)):
            gradient = GRADIENTS[step][i] + decay * values[i]
            speeds[i] = 0.8 * speeds[i] + gradient
            values[i] -= rate * (gradient + 0.8 * speeds[i])
            averages[i] = keep * averages[i] + (1 - keep) * values[i]
        run.advance(slope(model, step))
    for found, expected in zip(model.parameters(), values, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    run.finish()
    for found, expected in zip(model.parameters(), averages, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)


def test_ten_steps_of_adamw() -> None:
    """Loshchilov and Hutter 2019, algorithm 2: decay apart from the gradient, moments corrected for their start."""
    recipe = Recipe(epochs=2, lr=0.02, momentum=0.8, weight_decay=0.1, ema=0, optimiser="adamw")
    model = linear()
    values = [p.detach().numpy().copy() for p in model.parameters()]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    run = started(model, recipe)
    for step in range(10):
        rate = recipe.rate(step, 10)
        for i, decay in enumerate((0.1, 0.0)):
            gradient = GRADIENTS[step][i]
            first[i] = 0.8 * first[i] + 0.2 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            ahead, size = first[i] / (1 - 0.8 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
            values[i] -= rate * (ahead / (np.sqrt(size) + 1e-8) + decay * values[i])
        run.advance(slope(model, step))
    for found, expected in zip(model.parameters(), values, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10)


def test_without_an_average_the_last_weights_stay() -> None:
    model = linear()
    run = started(model, Recipe(2, ema=0))
    run.advance(slope(model, 0))
    last = model.weight.detach().clone()
    run.finish()
    assert torch.equal(model.weight, last)
    assert run.average == {}


def test_what_freezing_fixes_stays_and_is_not_averaged() -> None:
    model = linear()

    def fix() -> None:
        model.bias.data.fill_(7.0)
        model.bias.requires_grad_(False)

    run = started(model, hooks=Hooks(freeze=fix))
    run.advance(slope(model, 0))
    run.freeze()
    run.advance(slope(model, 1))
    run.finish()
    assert model.bias.tolist() == [7.0, 7.0]
    assert run.frozen
    assert not torch.equal(model.weight, linear().weight)


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps() -> None:
    model = linear()
    run = started(model)
    losses = []
    for step in range(7):
        loss = slope(model, step)
        losses.append(loss.item())
        run.advance(loss)
        assert run.between_epochs == (step == 4)
        assert run.mean_loss() == pytest.approx(np.mean(losses[step // 5 * 5 :]))
        if run.between_epochs:
            run.end_epoch()
    assert run.history == pytest.approx([np.mean(losses[:5])])


def test_the_share_done_is_told_after_each_step() -> None:
    model, told = linear(), list[float]()
    run = started(model, hooks=Hooks(on_step=told.append))
    for step in range(10):
        run.advance(slope(model, step))
    assert told == pytest.approx(np.arange(1, 11) / 10)


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_sound_notices(where: str) -> None:
    model = linear()
    run = started(model)
    run.advance(slope(model, 0))
    assert run.sound()
    if where == "loss":
        run.advance(slope(model, 1) * 0 + float("inf"))
    else:
        model.bias.data[1] = float("nan")
    assert not run.sound()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_state_brings_everything_back(frozen: bool) -> None:
    """Four more steps give the same with and without a stop; another run tells its hooks where it is."""
    model, told = linear(), list[Any]()
    run = started(model)
    for step in range(3):
        run.advance(slope(model, step))
    if frozen:
        run.freeze()
    state = {**run.state(), "model": {k: v.clone() for k, v in model.state_dict().items()}}
    state["average"] = {name: value.clone() for name, value in run.average.items()}
    state["optimiser"]["state"] = {
        k: {n: t.clone() for n, t in v.items()} for k, v in state["optimiser"]["state"].items()
    }
    state["loss"] = run.loss.clone()

    other = nn.Linear(3, 2).double()
    again = started(other, hooks=Hooks(on_step=told.append, freeze=lambda: told.append("frozen")))
    again.restore(state)
    assert told == [0.3, "frozen"][: 1 + frozen]
    for step in range(3, 7):
        run.advance(slope(model, step))
        again.advance(slope(other, step))
    assert (again.step, again.frozen, again.loss.item()) == (7, frozen, run.loss.item())
    for one, two in ((run.average, again.average), (model.state_dict(), other.state_dict())):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_state_of_another_model_is_refused() -> None:
    state = started(nn.Linear(4, 2)).state()
    with pytest.raises(BadInput, match="checkpoint: is of another model"):
        started(linear()).restore(state)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing to train"):
        started(nn.ReLU())
