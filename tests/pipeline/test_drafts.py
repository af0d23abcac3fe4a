"""What is known of a ladder before anything is trained. Times are made up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shoestring.compress.slim.space import parse
from shoestring.compress.slim.views import Views
from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput, NotMet
from shoestring.deploy import runtimes
from shoestring.deploy.grids import stored
from shoestring.deploy.normal_form import violations
from shoestring.pipeline import drafts
from shoestring.pipeline.drafts import draft, limit_ms, refusal
from shoestring.pipeline.elastic_training import trained
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

SLIM = "w=0.5,1:d=1:r=0.5"


def request(budget: str, tmp_path: Path, **how: Any) -> Request:
    return Request(tmp_path / "x.shoe", Budget.parse(budget), recipe=Recipe(epochs=1), ladder=3, slim=SLIM, **how)


@pytest.fixture
def views(original: Original) -> Views:
    assert original.model is not None
    return Views(original.model, parse(SLIM))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """The smallest takes 2 ms and the original 10; what was timed, and the outputs of its layers."""
    seen: dict[str, tuple[int, ...]] = {}

    def milliseconds(graphs: Any, *_: Any) -> dict[str, float]:
        seen.update(
            (name, tuple(len(own.weight) for own in stored(graph).values())) for name, (graph, _) in graphs.items()
        )
        return dict.fromkeys(graphs, 2.0)

    monkeypatch.setattr(drafts, "milliseconds", milliseconds)
    monkeypatch.setattr(drafts, "fastest", lambda *_: "onnxruntime")
    monkeypatch.setattr(drafts, "against", lambda *_: ({}, 10.0))
    return seen


def test_a_draft_is_dense_and_in_8_bits(original: Original) -> None:
    graph = draft(original)
    assert violations(graph) == []
    assert all(layer.scales is not None for layer in stored(graph).values())


def test_a_limit_is_in_milliseconds(original: Original, timed: dict, tmp_path: Path) -> None:
    graph = draft(original)
    asked = {
        text: limit_ms(request(text, tmp_path), original, lambda: graph, "x")
        for text in ("", "latency<=3ms", "latency<=0.5x")
    }
    assert list(asked.values()) == [float("inf"), 3.0, 5.0]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("latency<=1.5ms", "budget: latency<=1.5ms cannot be met by this ladder; latency<=2ms would do"),
        ("latency<=0.1x", "budget: latency<=0.1x cannot be met by this ladder; latency<=2ms would do"),
        ("latency<=1.9ms", ""),  # within what a quick look may be off
        ("latency<=0.5x", ""),
        ("", ""),
    ],
)
def test_a_limit_that_the_smallest_is_not_within(
    original: Original, views: Views, timed: dict, tmp_path: Path, budget: str, said: str
) -> None:
    found = refusal(original, views, request(budget, tmp_path), sparse=False)
    assert (isinstance(found, NotMet), str(found or "")) == (bool(said), said)
    if budget:
        assert timed["smallest"] == (8, 8, 8, 10)  # half as wide, one block left out


def test_what_speaks_against_refusing(original: Original, views: Views, timed: dict, tmp_path: Path) -> None:
    asked = request("latency<=1ms", tmp_path)
    assert refusal(original, views, asked, sparse=True) is None
    assert refusal(original, views, replace(asked, recipe=None), sparse=False) is None
    asked.checkpoints.mkdir()  # it goes on, and was looked at before
    assert refusal(original, views, asked, sparse=False) is None
    assert not timed


def test_a_runtime_that_refuses(
    original: Original, views: Views, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Refusing:
        def open(self, *_: Any, **__: Any) -> None:
            raise BadInput("engine: knows no Frobnicate")

    monkeypatch.setattr(runtimes, "get", lambda name: Refusing())
    found = refusal(original, views, request("", tmp_path, runtime="engine"), sparse=False)
    assert isinstance(found, BadInput)
    assert str(found) == "engine: knows no Frobnicate"
    assert refusal(original, views, request("", tmp_path), sparse=False) is None


def test_nothing_is_trained_then(original: Original, samples: Samples, timed: dict, tmp_path: Path) -> None:
    asked = replace(request("latency<=1ms", tmp_path), slim="w=0.5,1:d=1:r=1")
    with pytest.raises(NotMet, match="latency<=2ms would do"):
        trained(original, samples, asked, lambda *_: None)
    assert not list(tmp_path.iterdir())
