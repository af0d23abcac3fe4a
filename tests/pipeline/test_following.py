"""Training as all methods use it: callbacks in order, and a run's identity."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shoestring.compress.method import Applied
from shoestring.core.errors import BadInput
from shoestring.pipeline.following import Place, digest, follow
from shoestring.pipeline.original import Original
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks


def test_what_training_is_handed(original: Original, samples: Samples, tmp_path: Path, monkeypatch) -> None:
    """A watcher sees what was trained before the method changes it; names that must not decay are passed on."""
    seen: dict[str, Any] = {}

    class Done:
        leader = True

    def train(model: nn.Module, data: Any, recipe: Recipe, hooks: Hooks, **given: Any) -> Done:
        seen.update(given, hooks=hooks, model=model)
        hooks.on_step(0.5)
        given["progress"]("training", 0.5)
        return Done()

    order: list[str] = []

    class Method(Applied):
        def on_step(self, progress: float) -> None:
            order.append(f"method {progress}")

        def status(self) -> str:
            return "halfway" if order else ""

        def undecayed(self) -> frozenset[str]:
            return frozenset({"a.weight"})

    monkeypatch.setattr("shoestring.pipeline.following.train", train)
    assert original.model is not None
    applied = Method(original.model)
    data = replace(samples, training=object(), provenance={"sha256": "x"})
    place = Place(tmp_path, {"a": "magnitude:dense"})
    watch = lambda progress: order.append(f"watch {progress}")  # noqa: E731
    recipe = Recipe(epochs=1)
    shown: list[str] = []
    assert follow(original, original.model, applied, data, recipe, place, lambda stage, _: shown.append(stage), watch)
    assert order == ["watch 0.5", "method 0.5"]
    assert shown == ["training, halfway"]
    assert seen["hooks"].undecayed == {"a.weight"}
    assert seen["teacher"] is original.model
    assert seen["identity"]["settings"] == {"a": "magnitude:dense"}
    follow(original, original.model, applied, data, replace(recipe, distil=0.0), place, lambda *_: None)
    assert seen["teacher"] is None


def test_nothing_to_train_on(original: Original, samples: Samples, tmp_path: Path) -> None:
    assert original.model is not None
    with pytest.raises(BadInput, match="there is nothing to train on; give --data DIR"):
        follow(original, original.model, Applied(original.model), samples, Recipe(epochs=1), Place(tmp_path, {}), print)


def test_strides_of_axes_of_one_do_not_matter() -> None:
    odd = nn.Conv2d(1, 3, 2, bias=False)
    same = nn.Conv2d(1, 3, 2, bias=False)
    same.weight.data = odd.weight.data.clone()
    odd.weight.data = odd.weight.data.as_strided((3, 1, 2, 2), (4, 4, 2, 1)).permute(0, 1, 2, 3)[..., :1]
    same.weight.data = same.weight.data[..., :1].contiguous()
    assert digest(odd) == digest(same)


def test_another_network_is_another_run() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert digest(one) != digest(other)
    other.load_state_dict(one.state_dict())
    assert digest(one) == digest(other)
    assert digest(nn.Sequential(one)) != digest(one)  # names count
