"""Training as a whole: it learns, it is told what is wrong, and a killed run ends as if nothing had happened."""

import copy
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.train import Hooks, Recipe, train
from shoestring.train.processes import World

Program = Callable[..., Any]


def same(one: nn.Module, two: nn.Module) -> bool:
    there = two.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.state_dict().items())


def agreement(one: nn.Module, two: nn.Module, inputs: np.ndarray) -> float:
    with torch.no_grad():
        return float((one(torch.tensor(inputs)).argmax(1) == two(torch.tensor(inputs)).argmax(1)).float().mean())


def test_labels_are_learned(little: SimpleNamespace) -> None:
    model, data = little.network(dropout=0.0), little.Noise()
    trained = train(model, data, Recipe(20, batch=8, lr=0.1))
    with torch.no_grad():
        scores = model(torch.tensor(data.inputs))
    assert (scores.argmax(1).numpy() == data.labels).mean() > 0.9
    assert len(trained.history) == 20
    assert trained.history[-1] < 0.2 < trained.history[0]
    assert trained.leader
    assert trained.seconds > 0
    assert not any(module.training for module in model.modules())


def test_a_teacher_is_followed_without_labels(little: SimpleNamespace) -> None:
    teacher, model = little.network(dropout=0.0), little.network(dropout=0.0)
    train(teacher, little.Noise(), Recipe(20, batch=8, lr=0.1))
    original = {name: value.clone() for name, value in teacher.state_dict().items()}
    data = little.Noise(labelled=False)
    assert agreement(model, teacher, data.inputs) < 0.5
    train(model, data, Recipe(20, batch=8, lr=0.01), teacher=teacher.train())
    assert agreement(model, teacher, data.inputs) > 0.9
    assert all(torch.equal(value, original[name]) for name, value in teacher.state_dict().items())


def test_a_network_that_takes_views_trains_too(little: SimpleNamespace) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(144, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.linear(x.view(len(x), -1))

    assert math.isfinite(train(Viewed(), little.Noise(), Recipe(1, batch=8)).history[0])


def test_vectors_will_do(little: SimpleNamespace) -> None:
    data = little.Noise()
    data.inputs = data.inputs.reshape(46, -1)
    history = train(nn.Linear(192, 4), data, Recipe(10, batch=8, lr=0.1)).history
    assert history[-1] < history[0] / 2


@pytest.mark.parametrize("norms", [True, False])
def test_batch_norms_keep_their_statistics_where_asked(little: SimpleNamespace, norms: bool) -> None:
    """At a rate of next to nothing the first loss is that of a pass over the same batches, by batch or kept statistics;
    afterwards the statistics have moved or not, and the scales learn either way."""
    model, data = little.network(dropout=0.0), little.Noise()
    norm = model.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    norm.running_mean.fill_(0.3)
    expected = [
        functional.cross_entropy(copy.deepcopy(model).train(norms)(torch.tensor(inputs)), torch.tensor(labels)).item()
        for inputs, labels in data.epoch(0, 8)
    ]
    still = copy.deepcopy(model)
    history = train(still, data, Recipe(1, batch=8, lr=1e-9, norms=norms)).history
    assert history[0] == pytest.approx(np.mean(expected), rel=1e-5)
    train(model, data, Recipe(2, batch=8, lr=0.1, norms=norms))
    assert torch.equal(norm.running_mean, torch.full((6,), 0.3)) != norms
    assert not torch.equal(norm.weight, torch.ones(6))


@pytest.mark.parametrize(("epochs", "shares"), [(0.25, [1.0]), (1.2, [5 / 6, 1.0])])
def test_progress_is_told_at_the_end_of_each_epoch(
    little: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, epochs: float, shares: list[float]
) -> None:
    monkeypatch.setattr("shoestring.train.loop.REPORT_SECONDS", math.inf)
    told = list[tuple[str, float]]()

    def progress(stage: str, share: float) -> None:
        told.append((stage, share))

    history = train(little.network(), little.Noise(), Recipe(epochs, batch=8), progress=progress).history
    assert [share for _, share in told] == pytest.approx(shares)
    last = math.ceil(epochs)
    assert told[-1][0] == f"training, epoch {last} of {last}, loss {history[-1]:.3f}"


@pytest.mark.parametrize(("frozen", "at"), [(0.3, 14), (0.0, 20), (1.0, 0)])
def test_hooks_are_called_in_time(little: SimpleNamespace, frozen: float, at: int) -> None:
    told = list[Any]()
    hooks = Hooks(lambda: told.append("penalty") or 0.0, told.append, lambda: told.append("freeze"))
    train(little.network(), little.Noise(), Recipe(4, batch=8, frozen=frozen), hooks)
    assert told.count("freeze") == 1
    assert told.index("freeze") == 2 * at
    rest = [entry for entry in told if entry != "freeze"]
    assert rest[::2] == ["penalty"] * 20
    assert rest[1::2] == pytest.approx(np.arange(1, 21) / 20)


def test_the_penalty_is_part_of_the_loss(little: SimpleNamespace) -> None:
    model = little.network()
    train(
        model,
        little.Noise(),
        Recipe(4, batch=8, ema=0),
        Hooks(lambda: 10 * model.get_submodule("6").bias.square().sum()),
    )
    free = little.network()
    train(free, little.Noise(), Recipe(4, batch=8, ema=0))
    assert model.get_submodule("6").bias.norm() < 0.2 * free.get_submodule("6").bias.norm()


def test_a_loss_of_its_own_needs_no_labels_and_no_teacher(little: SimpleNamespace) -> None:
    data = little.Noise(labelled=False)
    data.inputs = data.inputs.reshape(46, -1)
    model, seen = nn.Linear(192, 4), list[Tensor]()

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return (model(inputs) - 3).square().mean()

    history = train(model, data, Recipe(10, batch=8, lr=0.01), Hooks(loss=loss)).history
    assert history[-1] < history[0] / 4
    assert len(seen) == 50


def test_after_an_epoch_it_is_asked_what_to_say(little: SimpleNamespace) -> None:
    losses, told = list[tuple[float, ...]](), list[str]()

    def glance(found: Any) -> str:
        losses.append(tuple(found))
        torch.rand(3)  # changes nothing
        return f"glance {len(found)}"

    model, other = little.network(), little.network()
    trained = train(
        model, little.Noise(), Recipe(3, batch=8), Hooks(on_epoch=glance), progress=lambda t, _: told.append(t)
    )
    assert losses == [trained.history[:1], trained.history[:2], trained.history]
    assert told[-1] == f"training, epoch 3 of 3, loss {trained.history[-1]:.3f}, glance 3"
    assert not any("glance 3" in text for text in told[:-1])
    train(other, little.Noise(), Recipe(3, batch=8))
    assert same(model, other)


def test_the_same_seed_gives_the_same_and_leaves_the_callers_numbers_alone(little: SimpleNamespace) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, _ = little.job(None)
    assert torch.equal(torch.rand(3), expected)
    two, _ = little.job(None)
    assert same(one, two)
    other = little.network()
    train(other, little.Noise(), replace(little.RECIPE, seed=1), little.quantised(other), little.network())
    assert not same(one, other)


@pytest.mark.parametrize(
    ("data", "recipe", "teacher", "told"),
    [
        ({"labelled": False}, {}, False, "data: has no labels and there is no teacher"),
        ({"labelled": False}, {"distil": 0.5}, True, "distil: 0.5 asks for labels"),
        ({}, {"features": ("7",)}, True, "features: '7' is no module"),
        ({}, {"lr": 1e9}, False, r"finite in epoch 1; try a smaller --lr than 1e\+09"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    little: SimpleNamespace, data: dict[str, Any], recipe: dict[str, Any], teacher: bool, told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        train(
            little.network(),
            little.Noise(**data),
            Recipe(**{"epochs": 4, "batch": 8, **recipe}),
            teacher=little.network() if teacher else None,
        )


def test_a_batch_that_cannot_be_shared_is_refused(little: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoestring.train.loop.join", lambda: World(torch.device("cpu"), size=3))
    with pytest.raises(BadInput, match="batch: 8 inputs cannot be shared by 3 processes"):
        train(little.network(), little.Noise(), Recipe(1, batch=8))


def test_one_input_a_step_is_too_few_for_a_norm_behind_pooling(little: SimpleNamespace) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4))
    with pytest.raises(BadInput, match=r"^batch: .* more than 1 value per channel .*; give --train-batch 2 or more"):
        train(model, little.Noise(), Recipe(1, batch=1))
    train(model, little.Noise(size=4), Recipe(1, batch=1, norms=False))


def test_no_data_is_refused(little: SimpleNamespace) -> None:
    data = little.Noise()
    data.inputs = data.inputs[:0]
    with pytest.raises(BadInput, match="data: has 0 inputs"):
        train(little.network(), data, Recipe(1))


@pytest.mark.parametrize("step", [7, 14, 18])
def test_a_loss_that_blows_up_leaves_the_last_good_checkpoint(
    little: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Step 14 is the last of an epoch and ruins the weights after its own loss was still finite."""
    monkeypatch.setattr("shoestring.train.loop.SAVE_SECONDS", 0.0)
    model, steps = little.network(), iter(range(100))
    hooks = Hooks(lambda: model.get_submodule("0").weight.sum() * (1e38 if next(steps) == step else 0.0))
    with pytest.raises(BadInput, match=rf"finite in epoch {step // 5 + 1};"):
        train(model, little.Noise(), Recipe(4, batch=8), hooks, folder=tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)["state"]
    assert state["step"] == step
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_killed_run_goes_on_bit_for_bit(little: SimpleNamespace, program: Program, tmp_path: Path) -> None:
    """Killed twice by SIGKILL in the middle of an epoch, before and after the grids froze."""
    expected, whole = little.job(tmp_path / "whole")
    for kill, frozen in ((7, False), (16, True)):
        assert program(tmp_path / "run", tmp_path / "out", kill).returncode == -signal.SIGKILL
        state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["state"]
        assert (state["step"], state["frozen"]) == (kill, frozen)
    found, trained = little.job(tmp_path / "run")
    assert same(found, expected)
    assert trained.history == whole.history
    assert not (tmp_path / "out-0.pt").exists()


def test_a_run_that_is_over_is_not_trained_again(little: SimpleNamespace, tmp_path: Path) -> None:
    expected, _ = little.job(tmp_path)
    found, trained = little.job(tmp_path, kill=1)
    assert same(found, expected)
    assert len(trained.history) == 4


def test_a_folder_of_another_run_is_refused(little: SimpleNamespace, tmp_path: Path) -> None:
    little.job(tmp_path)
    others = {
        r"recipe\.lr: 0\.1 there, 0\.01 here": replace(little.RECIPE, lr=0.01),
        'recipe.optimiser: "sgd" there, "adamw" here': replace(little.RECIPE, optimiser="adamw"),
    }
    for told, recipe in others.items():
        with pytest.raises(BadInput, match=told):
            train(little.network(), little.Noise(), recipe, folder=tmp_path, identity={"model": "little"})
    with pytest.raises(BadInput, match=r'model: "little" there, "big" here'):
        train(little.network(), little.Noise(), little.RECIPE, folder=tmp_path, identity={"model": "big"})
