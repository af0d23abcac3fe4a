"""Plans that are timed: by a stopwatch made by hand until they hold, and drafts of the small network that are real."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.pattern import BlockPattern
from shoestring.core.proposal import Considered
from shoestring.deploy import shoe
from shoestring.deploy.normal_form import violations
from shoestring.deploy.weights import weights
from shoestring.pipeline import search
from shoestring.pipeline.artifact import Story, contents
from shoestring.pipeline.menus import Menus
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import Ground, steps
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import MARGIN, PACKED, REPLANS, Settled, bare, beside, draft, paying, settle

NAMES = ("a", "b", "d", "e")
MS = {"fp32": (8.0, 6.0, 5.0, 3.0), "int8": (4.0, 2.0, 3.0, 2.0)}
LOSSES = (5.0, 4.0, 1.0, 0.5)
SIZES = {"fp32": 400, "int8": 100}
REST = {"latency": 1.0, "size": 50.0}
Clock = Callable[[float, str], float]


def quiet(stage: str, share: float) -> None:
    pass


def ground(*runtimes: str, **how: Any) -> Ground:
    """Every layer in fp32 (no loss) or in 8 bits. The original took 40 ms when that was made."""
    layers = {
        name: tuple(
            Considered(option, MS[option][index], SIZES[option], 0.0 if option == "fp32" else LOSSES[index])
            for option in MS
        )
        for index, name in enumerate(NAMES)
    }
    own = tuple(Menus(Device("here", (), 2, 1, name, "1"), layers, REST) for name in runtimes or ("onnxruntime",))
    nothing = Original("net", ModelProto(), (), ())
    return Ground(nothing, None, tuple(one.device for one in own), (), {}, own, 40.0, 1600.0, **how)


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`workshop(clock)`: from now on a draft whose layers take `ms` by themselves takes clock(ms, runtime), the
    original 40 ms, and a file `more` bytes than its layers. Gets each draft that is timed: an option's first letter
    for each layer."""

    def opened(clock: Clock, original: float = 40.0, more: float = 0.0) -> list[str]:
        timed: list[str] = []

        def made(original: Original, asked: tuple, samples: Samples) -> ModelProto:
            floats = {name for name, bits in asked[-1].setting.layers if bits == 32}
            return ModelProto(producer_name="".join("f" if name in floats else "i" for name in NAMES))

        def against(graphs: Mapping[str, tuple[ModelProto, str]], *_: Any) -> tuple[dict[str, float], float]:
            timed.extend(graph.producer_name for graph, _ in graphs.values())
            times = {name: clock(total(graph.producer_name), runtime) for name, (graph, runtime) in graphs.items()}
            return times, original

        monkeypatch.setattr(search, "draft", made)
        monkeypatch.setattr(search, "against", against)
        monkeypatch.setattr(search, "_size", lambda _, graph, asked: more + size(graph.producer_name))
        return timed

    return opened


def total(picks: str) -> float:
    return REST["latency"] + sum(MS["fp32" if own == "f" else "int8"][index] for index, own in enumerate(picks))


def size(picks: str) -> float:
    return REST["size"] + sum(SIZES["fp32" if own == "f" else "int8"] for own in picks)


def lost(picks: str) -> float:
    return sum(loss for own, loss in zip(picks, LOSSES, strict=True) if own == "i")


def best(holds: Callable[[str], bool]) -> float:
    """The least loss of all plans that hold."""
    return min(lost(picks) for picks in map("".join, product("fi", repeat=len(NAMES))) if holds(picks))


def picks(settled: Settled) -> str:
    return "".join(layer.pick[0] for layer in settled.proposal.layers)


def run(text: str, samples: Samples, where: Ground | None = None, loss: float | None = None) -> Settled:
    return settle(where or ground(), Budget.parse(text), samples, quiet, loss)


@pytest.mark.parametrize("factor", [1.2, 1.0, 0.6])
@pytest.mark.parametrize("limit", [19.0, 16.0, 15.0])
def test_until_what_is_measured_holds(factor: float, limit: float, workshop, samples: Samples) -> None:
    """Where sums are too small it plans again until the plan holds, where they are too large until it uses the room."""
    timed = workshop(lambda ms, _: factor * ms)
    found = run(f"latency<={limit}ms", samples)
    assert found.proposal.met
    assert found.ms == found.proposal.totals["latency"] == factor * total(picks(found)) <= limit
    assert lost(picks(found)) == best(lambda plan: factor * total(plan) <= MARGIN * limit)
    assert found.where.scale("onnxruntime", "latency") == pytest.approx(factor)
    assert len(timed) <= 3
    assert (found.proposal.budget, found.proposal.reason) == (f"latency<={limit:g}ms", "")
    assert [str(step.setting) for step in found.steps] == list(found.proposal.methods)


def test_a_plan_that_takes_nearly_what_it_may_is_not_planned_again(workshop, samples: Samples) -> None:
    timed = workshop(lambda ms, _: 0.99 * ms)
    limit = total("fiff") / MARGIN
    assert picks(run(f"latency<={limit}ms", samples)) == "fiff"
    assert len(timed) == 1


def test_shares_are_of_the_original_as_it_is_now(workshop, samples: Samples) -> None:
    """When the table was made it took 40 ms, now 30."""
    workshop(lambda ms, _: ms, original=30.0)
    found = run("latency<=0.5x", samples)
    assert found.proposal.original["latency"] == found.where.original_ms == 30
    assert found.proposal.met
    assert found.ms <= 15
    assert lost(picks(found)) == best(lambda plan: total(plan) <= MARGIN * 15)


def test_beyond_reach(workshop, samples: Samples) -> None:
    """The fastest there is, and what would do."""
    workshop(lambda ms, _: 2 * ms)
    found = run("latency<=5ms", samples)
    assert not found.proposal.met
    assert picks(found) == "iiii"
    assert found.ms == 2 * total("iiii")
    assert found.proposal.reason.startswith("on onnxruntime, latency<=")
    assert found.proposal.reason.endswith("latency<=24.49ms would do")


def test_a_clock_that_nothing_holds(workshop, samples: Samples) -> None:
    """Every plan takes a little longer than what was asked: the nearest is told, for what it is."""
    rounds = iter([1.3, 1.6, 1.2, 1.1, 1.4])
    timed = workshop(lambda ms, _: next(rounds) * 18)
    found = run("latency<=18ms", samples)
    assert len(timed) == REPLANS
    assert not found.proposal.met
    assert found.ms == pytest.approx(1.1 * 18)
    assert found.proposal.reason


def test_where_only_bytes_are_limited_the_smallest_is_the_nearest(workshop, samples: Samples) -> None:
    """However fast others are."""
    workshop(lambda ms, _: 100 - ms, more=2000.0)
    found = run("size<=1200B", samples)
    assert not found.proposal.met
    assert size(picks(found)) == size("iiii")
    assert "size<=" in found.proposal.reason


def test_bytes_beside_the_weights_count(workshop, samples: Samples) -> None:
    """A file is larger than its layers: known after one draft."""
    timed = workshop(lambda ms, _: ms, more=300.0)
    found = run("size<=1400B", samples)
    assert found.proposal.met
    assert found.proposal.totals["size"] == 300 + size(picks(found)) <= PACKED * 1400
    assert lost(picks(found)) == best(lambda plan: 300 + size(plan) <= MARGIN * 1400)
    assert found.where.beside == 300
    assert len(timed) == 2
    grown = run("size<=1400B", samples, ground(grown=300.0))
    assert 600 + size(picks(grown)) <= PACKED * 1400


def test_both_limits(workshop, samples: Samples) -> None:
    workshop(lambda ms, _: 1.2 * ms, more=100.0)
    found = run("latency<=20ms, size<=1100B", samples)
    assert found.proposal.met
    wanted = best(lambda plan: 1.2 * total(plan) <= MARGIN * 20 and 100 + size(plan) <= MARGIN * 1100)
    assert lost(picks(found)) == wanted


def test_another_runtime_where_the_first_is_slower_than_it_seemed(workshop, samples: Samples) -> None:
    workshop(lambda ms, runtime: 3 * ms if runtime == "onnxruntime" else 1.1 * ms)
    found = run("latency<=16ms", samples, ground("onnxruntime", "engine"))
    assert found.proposal.device["runtime"] == "engine"
    assert found.proposal.met
    assert lost(picks(found)) == best(lambda plan: 1.1 * total(plan) <= MARGIN * 16)


def test_the_fastest_within_a_loss(workshop, samples: Samples) -> None:
    """One draft: no time has to hold."""
    timed = workshop(lambda ms, _: 1.2 * ms)
    found = run("quality>=-1pt", samples, loss=5.0)
    assert found.proposal.met
    assert len(timed) == 1
    fastest = min(total(plan) for plan in map("".join, product("fi", repeat=4)) if lost(plan) <= 5)
    assert found.ms == 1.2 * fastest
    sized = run("quality>=-1pt, size<=1200B", samples, loss=5.0)
    assert sized.proposal.met
    assert size(picks(sized)) <= 1200
    assert lost(picks(sized)) <= 5


SHAPED = {"a": "structured:n=2", "b": "magnitude:4x1@50%", "d": "int8"}


@pytest.fixture
def shaped(workshop, samples: Samples) -> Settled:
    """A plan that decomposes one layer and has zeros in another."""
    workshop(lambda ms, _: ms)
    return replace(run("latency<=30ms", samples), steps=tuple(steps(SHAPED)))


@pytest.mark.parametrize(
    ("without", "idle"),
    [
        ({"structured": 12.0, "magnitude": 15.0}, []),
        ({"structured": 10.1, "magnitude": 15.0}, ["structured"]),
        ({"structured": 12.0, "magnitude": 9.0}, ["magnitude"]),
        ({"structured": 10.2, "magnitude": 10.2}, ["structured", "magnitude"]),
    ],
)
def test_what_makes_nothing_faster_is_taken_back(without, idle, shaped: Settled, samples, monkeypatch) -> None:
    """With both it takes 10 ms; `without` one of them."""
    left = {"structured, magnitude": 10.0, "magnitude": without["structured"], "structured": without["magnitude"]}

    def made(original: Original, asked: Any, samples: Samples) -> ModelProto:
        return ModelProto(producer_name=", ".join(step.method.CARD.name for step in asked[:-1]))

    def against(graphs: Mapping[str, tuple[ModelProto, str]], *_: Any) -> tuple[dict[str, float], float]:
        return {name: left[graph.producer_name] for name, (graph, _) in graphs.items()}, 40.0

    monkeypatch.setattr(search, "draft", made)
    monkeypatch.setattr(search, "against", against)
    found = paying(shaped, samples, sized=False)
    assert [name for name, _ in found.taken_back] == idle
    names = [step.method.CARD.name for step in found.steps]
    assert names == [name for name in ("structured", "magnitude", "int8") if name not in idle]
    assert all(f"10 ms with it, {without[name]:.3g} ms without" == why for name, why in found.taken_back)
    assert paying(shaped, samples, sized=True) == shaped


def test_bits_alone_are_not_timed_again(workshop, samples: Samples) -> None:
    timed = workshop(lambda ms, _: ms)
    found = run("latency<=30ms", samples)
    count = len(timed)
    assert paying(found, samples, sized=False) == found
    assert len(timed) == count


DEPTHWISE, PROJECT, LAST = "blocks.0.depthwise.0", "blocks.0.project.0", "classifier"


def test_a_real_draft(original: Original, samples: Samples) -> None:
    """Zeros, sums, floats and 8 bits where they were picked; it runs."""
    picked = {DEPTHWISE: "structured:n=2", PROJECT: "magnitude:4x1@50%", LAST: "fp32"}
    graph = draft(original, steps(picked), samples)
    assert violations(graph) == []
    found = weights(graph)
    assert BlockPattern(4, 1).sparsity(found[PROJECT]) == 0.5
    assert np.count_nonzero(found["blocks.1.project.0"]) > 0.9 * 256
    assert found[DEPTHWISE].shape == (16, 1, 2, 2)
    assert found["blocks.1.depthwise.0"].shape == (16, 1, 3, 3)
    assert found[LAST].dtype == np.float32
    assert {found[name].dtype for name in found if name != LAST} == {np.dtype(np.int8)}
    assert outputs(graph, "onnxruntime", samples.judgement).shape == (8, 10)


def test_a_draft_of_nothing(original: Original, samples: Samples) -> None:
    floats = steps(dict.fromkeys((layer.name for layer in original.layers if layer.weight), "fp32"))
    assert draft(original, floats, samples) == original.graph


def test_real_bytes(original: Original, samples: Samples, tmp_path: Path) -> None:
    """Those of a file that says nothing of itself, with weights of 4 bits packed so."""
    asked = steps({PROJECT: "magnitude:4x1@50%, int8:w4", LAST: "int8"})
    graph = draft(original, asked, samples)
    for bits in ({PROJECT: 4}, {}):
        shoe.write(tmp_path / "x.shoe", contents(original, graph, Story({}, "", "", 0), None, (), bits))
        assert bare(original, graph, bits) == (tmp_path / "x.shoe").stat().st_size
    assert search._size(original, graph, asked) == bare(original, graph, {PROJECT: 4}) != bare(original, graph, {})


def test_bytes_of_what_a_file_says_of_itself(original: Original, samples: Samples, tmp_path: Path) -> None:
    """No fewer than a file really takes."""
    request = Request(out=tmp_path / "x.shoe", budget=Budget.parse("size<=9kB"), labels=("ant", "bee"))
    told = Story({layer.name: "int8" for layer in original.layers if layer.weight}, "mse", "size<=9kB", 0)
    graph = draft(original, steps({LAST: "int8"}), samples)
    file = shoe.size(contents(original, graph, told, None, ("ant", "bee")))
    more = beside(original, samples, request)
    assert file - bare(original, graph, {}) <= more <= file - bare(original, graph, {}) + 200
