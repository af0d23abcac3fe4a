"""What stays of several layers, by their settings and by how far the ramp is."""

import numpy as np
import pytest

from shoestring.compress import magnitude
from shoestring.compress.magnitude.selection import allotted, kept
from shoestring.compress.method import Weight
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput

RNG = np.random.default_rng(0)
WEIGHTS = {name: Weight(RNG.standard_normal((16, 16)).astype(np.float32)) for name in "abcd"}
EVEN = Cost((0.0, 1.0), (1.0, 0.0))


def shares(texts: dict[str, str], allotted: dict[str, float], ramp: float = 1.0) -> dict[str, float]:
    settings = {name: magnitude.parse(text) for name, text in texts.items()}
    given = {name: WEIGHTS[name] for name in texts}
    return {name: float((~keep).mean()) for name, keep in kept(given, settings, allotted, ramp).items()}


def test_each_by_its_own_setting_in_the_order_of_the_layers() -> None:
    texts = {"a": "4x1@50%", "b": "1x1@25%:uniform", "c": "dense", "d": "2:4"}
    assert shares(texts, {}) == {"a": 0.5, "b": 0.25, "d": 0.5}
    assert list(shares(texts, {})) == ["a", "b", "d"]


def test_the_ramp_takes_a_part_of_every_share() -> None:
    texts = {"a": "1x1@50%", "b": "4x1@50%:uniform", "d": "2:4"}
    assert shares(texts, {}, 0.5) == pytest.approx({"a": 0.25, "b": 0.25, "d": 0.25}, abs=0.01)
    assert shares(texts, {}, 0.0) == {"a": 0, "b": 0, "d": 0}


def test_what_is_allotted_counts() -> None:
    assert shares({"a": "4x1@50%:milliseconds", "b": "4x1@50%:milliseconds"}, {"a": 25.0, "b": 75.0}) == {
        "a": 0.25, "b": 0.75
    }  # fmt: skip


def test_one_budget_for_layers_of_one_setting() -> None:
    """Two budgets, each spent where its own layers lose least; layers in none have no share."""
    settings = {name: magnitude.parse(f"4x1@{n}%:milliseconds") for name, n in (("a", 40), ("b", 40), ("c", 80))}
    settings["d"] = magnitude.parse("4x1@50%")
    costs = dict.fromkeys("abc", EVEN)
    found = allotted(WEIGHTS, settings, costs)
    assert set(found) == {"a", "b", "c"}
    assert found["a"] + found["b"] >= 80 - 1e-6
    assert found["c"] >= 80
    with pytest.raises(BadInput, match="zeros of c were not timed"):
        allotted(WEIGHTS, settings, dict.fromkeys("ab", EVEN))
