"""The schedule against a table worked out by hand, and the values a recipe refuses."""

import math
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.train.recipe import Recipe, suited


def test_the_rate_rises_then_falls_as_a_cosine() -> None:
    recipe = Recipe(epochs=1, lr=0.4, warmup=0.3)
    rates = [recipe.rate(step, 10) for step in range(10)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.4 * math.cos(math.pi * step / 14) ** 2 for step in range(1, 7)])


def test_what_is_not_asked_suits_the_optimiser() -> None:
    assert suited(3) == suited(3, "sgd") == Recipe(epochs=3)
    assert suited(3, "adamw", batch=4) == Recipe(3, batch=4, lr=0.002, weight_decay=0.05, optimiser="adamw")
    assert suited(3, "adamw", lr=0.1, weight_decay=0) == Recipe(3, lr=0.1, weight_decay=0, optimiser="adamw")
    with pytest.raises(BadInput, match=r"^optimiser: 'lion' is not known; write one of sgd, adamw$"):
        suited(3, "lion")


def test_without_warmup_the_first_step_is_the_fastest() -> None:
    assert Recipe(epochs=1, lr=0.4, warmup=0).rate(0, 1) == pytest.approx(0.4)


@pytest.mark.parametrize(("epochs", "steps"), [(2, 20), (0.25, 2), (0.26, 3), (0.001, 1), (1.5, 15)])
def test_a_part_of_an_epoch_is_a_number_of_steps(epochs: float, steps: int) -> None:
    assert Recipe(epochs).steps(10) == steps


@pytest.mark.parametrize(("frozen", "step"), [(0.2, 8), (0, 10), (1, 0), (0.01, 9)])
def test_the_last_share_is_frozen(frozen: float, step: int) -> None:
    assert Recipe(1, frozen=frozen).freezes(10) == step


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": math.inf},
        {"epochs": math.nan},
        {"lr": 0},
        {"lr": -1},
        {"temperature": 0},
        {"batch": 0},
        {"batch": 8.5},
        {"momentum": 1},
        {"weight_decay": -1e-4},
        {"warmup": 1},
        {"frozen": 1.5},
        {"ema": 1},
        {"distil": -0.1},
        {"feature_weight": math.nan},
        {"seed": -1},
        {"optimiser": "lion"},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(BadInput, match=rf"^{name}: "):
        Recipe(**{"epochs": 1, **wrong})
