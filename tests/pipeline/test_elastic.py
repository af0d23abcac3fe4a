"""Smaller networks of an elastic one: what they keep and cost, and which become points. Times are made up."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shoestring.compress.slim.space import Shape
from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput, NotMet
from shoestring.pipeline import elastic
from shoestring.pipeline.elastic import Candidate, candidates, choose, trained
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

# What the program of several processes trains on; pytest's folders are no packages to import from.
Noise: Any = runpy.run_path(str(Path(__file__).with_name("recovering.py")), run_name="program")["Noise"]


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
    slimming = trained(original, sized, request(), quiet)
    assert slimming is not None
    found, runtime = candidates(original, slimming, sized, request(), quiet)
    assert runtime == "onnxruntime"
    assert [str(one.shape) for one in found] == [str(shape) for shape in slimming.views.space]
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
    monkeypatch.setattr(elastic, "against", lambda graphs, original, threads: ({}, 10.0))
    assert [str(c.shape) for c in choose(FOUND, WHOLE, request("latency<=0.25x", 2), "x")] == ["w=0.25", "w=0.5"]
    with pytest.raises(NotMet, match=r"^budget: latency<=0.5ms cannot be met by this ladder; latency<=1ms would do"):
        choose(FOUND, WHOLE, request("latency<=0.5ms"), "x")


def test_an_onnx_file_cannot_be_elastic(original: Original, samples: Samples) -> None:
    with pytest.raises(BadInput, match="--ladder works on torch modules"):
        trained(replace(original, model=None), samples, request(), quiet)


def test_inputs_that_cannot_be_made_smaller(original: Original, samples: Samples) -> None:
    with pytest.raises(BadInput, match=r"^slim: these inputs cannot be made smaller; leave r= out"):
        trained(original, samples, request(), quiet)
    slimming = trained(original, samples, replace(request(), slim="w=0.5,1:d=1"), quiet)
    assert slimming is not None
    assert slimming.views.space.side == (1.0,)


def test_a_training_that_was_stopped_goes_on(
    original: Original, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what is made before training may come out a last bit away the second time."""
    given = replace(samples, training=Noise())
    asked = replace(request(), out=tmp_path / "x.shoe", slim="w=0.5,1:d=1", recipe=Recipe(epochs=1, batch=4))

    def cut(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(original, given, asked, cut)
    made = elastic.apply

    def moved(*args: Any) -> Any:
        slimming = made(*args)
        next(slimming.model.parameters()).data.mul_(1 + 1e-6)
        return slimming

    monkeypatch.setattr(elastic, "apply", moved)
    assert trained(original, given, asked, quiet) is not None
