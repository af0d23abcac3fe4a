"""Smaller networks of an elastic one: what they keep and cost, and which become points. Times are made up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shoestring.compress.slim.space import Shape
from shoestring.core.budget import Budget
from shoestring.core.errors import NotMet
from shoestring.core.quality import distance
from shoestring.deploy.normal_form import violations
from shoestring.pipeline import drafts, elastic
from shoestring.pipeline.elastic import Candidate, candidates, choose
from shoestring.pipeline.elastic_training import trained
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples


def request(budget: str = "", ladder: int = 3, **how: Any) -> Request:
    return Request(Path("x.shoe"), Budget.parse(budget), ladder=ladder, slim="w=0.5,1:d=1:r=0.5", **how)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """`clock({"w=1": 2.0})`: the ms of each shape."""

    def put(times: dict[str, float]) -> None:
        monkeypatch.setattr(elastic, "milliseconds", lambda graphs, *_: {name: times.get(name, 1.0) for name in graphs})
        monkeypatch.setattr(elastic, "fastest", lambda *_: "onnxruntime")

    return put


@pytest.fixture
def sized(samples: Samples) -> Samples:
    """That can be made smaller; what they are then is no matter here."""
    return replace(samples, resized=lambda shape: samples)


def quiet(stage: str, share: float) -> None:
    pass


def test_every_network_of_the_space(original: Original, sized: Samples, clock) -> None:
    clock({"w=1": 3.0})
    made = trained(original, sized, request(), quiet)
    assert made is not None
    found, runtime = candidates(original, made, sized, request(), quiet)
    assert runtime == "onnxruntime"
    assert [str(one.shape) for one in found] == [str(shape) for shape in made.slimming.views.space]
    assert {one.network.input for one in found} == {(3, 32, 32), (3, 16, 16)}
    assert (found[0].ms, found[1].ms) == (3.0, 1.0)
    # The largest is the original with other statistics; what it keeps is told of the exported graph too.
    given, theirs = sized.calibration, outputs(original.graph, "onnxruntime", sized.calibration)
    largest = outputs(found[0].network.graph, "onnxruntime", given)
    soft = [np.exp(v - v.max(1, keepdims=True)) for v in (largest, theirs)]
    ours, expected = (v / v.sum(1, keepdims=True) for v in soft)
    moved = 0.5 * np.abs(ours - expected).sum(1).mean()
    assert found[0].kept == pytest.approx(100 * (1 - moved), abs=0.1)


def one(shape: Shape, ms: float, kept: float, size: int = 32) -> Candidate:
    return Candidate(shape, SimpleNamespace(input=(3, size, size)), kept, ms)  # type: ignore[arg-type]


FOUND = [
    one(Shape(), 4.0, 99.0),
    one(Shape(0.75), 3.0, 90.0),
    one(Shape(0.5), 2.0, 80.0),
    one(Shape(0.35), 2.5, 70.0),  # beaten
    one(Shape(0.25), 1.0, 60.0),
    one(Shape(1, 0, 0, 0.5), 1.5, 99.5, 16),  # smaller inputs, and better
]
WHOLE = SimpleNamespace(input=(3, 32, 32), graph=None)


def test_the_richest_takes_full_inputs_and_the_cheapest_is_the_fastest() -> None:
    assert [str(c.shape) for c in choose(FOUND[:5], WHOLE, request(), "x")] == ["w=0.25", "w=0.5", "w=1"]
    all_of_them = choose(FOUND[:5], WHOLE, request(ladder=9), "x")
    assert [str(c.shape) for c in all_of_them] == ["w=0.25", "w=0.5", "w=0.75", "w=1"]
    # One of smaller inputs that keeps more than the richest may is no step on the way to it.
    assert [str(c.shape) for c in choose(FOUND, WHOLE, request(ladder=2), "x")] == ["w=0.25", "w=1"]


def test_a_limit_is_what_the_richest_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [str(c.shape) for c in choose(FOUND, WHOLE, request("latency<=3.5ms", 2), "x")] == ["w=0.25", "w=0.75"]
    monkeypatch.setattr(elastic, "_draft", lambda network: None)
    monkeypatch.setattr(drafts, "against", lambda graphs, original, threads: ({}, 10.0))
    assert [str(c.shape) for c in choose(FOUND, WHOLE, request("latency<=0.25x", 2), "x")] == ["w=0.25", "w=0.5"]
    with pytest.raises(NotMet, match=r"^budget: latency<=0.5ms cannot be met by this ladder; latency<=1ms would do"):
        choose(FOUND, WHOLE, request("latency<=0.5ms"), "x")


def test_learned_grids_are_timed_as_they_are(original: Original, sized: Samples, clock) -> None:
    """The graph of a candidate is the one that is shipped, and what it keeps is told of that."""
    clock({})
    asked = replace(request(), methods=("lsq+:w4a4",))
    made = trained(original, sized, asked, quiet)
    assert made is not None
    found, _ = candidates(original, made, sized, asked, quiet)
    small = next(one for one in found if str(one.shape) == "w=0.5:d=1")
    assert small.learnt is not None
    assert violations(small.network.graph) == []
    assert original.model is not None
    x = np.concatenate(sized.calibration)
    expected = original.model(torch.from_numpy(x)).detach().numpy()
    moved = distance(outputs(small.network.graph, "onnxruntime", sized.calibration), expected)[1].mean()
    assert small.kept == pytest.approx(100 * (1 - moved), abs=2)  # codes on a rounding border may go either way
    layers = {layer.name: layer.weight for layer in small.network.layers if layer.weight}
    assert layers["stem.0"] == (8, 3, 3, 3)
    assert "blocks.1.project.0" not in layers
