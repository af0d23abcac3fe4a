"""The policy, parameter by parameter."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shoestring.train.groups import groups


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step, self.offset = nn.Parameter(torch.ones(4)), nn.Parameter(torch.tensor(0.0))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.step[:, None, None, None] + self.offset


def names(model: nn.Module, decay: float) -> dict[str, float]:
    """The weight decay of each parameter that is in a group."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(p)]: group["weight_decay"] for group in groups(model, decay) for p in group["params"]}


def test_only_weights_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    parametrize.register_parametrization(model[0], "weight", Step())
    model[2].bias.requires_grad_(False)
    assert names(model, 0.1) == {
        "0.parametrizations.weight.original": 0.1,
        "0.parametrizations.weight.0.step": 0.0,
        "0.parametrizations.weight.0.offset": 0.0,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
    }


def test_a_shared_parameter_is_there_once() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert [len(group["params"]) for group in groups(nn.Sequential(first, second), 0.1)] == [1, 2]


def test_nothing_to_train_gives_no_group() -> None:
    assert groups(nn.Linear(2, 2).requires_grad_(False), 0.1) == []
    assert groups(nn.ReLU(), 0.1) == []


def test_what_a_method_takes_out_of_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    policy = groups(model, 0.1, {"1.weight", "nowhere.weight"})
    decayed = {id(parameter): group["weight_decay"] for group in policy for parameter in group["params"]}
    told = {name: decayed[id(parameter)] for name, parameter in model.named_parameters()}
    assert told == {"0.weight": 0.1, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}
