"""From budget to network: which plans are made, judged and kept. What is made and timed here is made up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import NotMet
from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.core.receipt import Quality
from shoestring.deploy.weights import weights
from shoestring.pipeline import planned as module
from shoestring.pipeline.making import Made
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import Ground, steps
from shoestring.pipeline.planned import GROWS, TRIES, Planned, floats, planned, plans
from shoestring.pipeline.post_training import EightBit, outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import Settled, draft
from shoestring.train.recipe import Recipe

DEVICE = Device("here", (), 2, 1, "openvino", "1")
NOTHING = Original("net", ModelProto(), (), ())
NETWORK = EightBit(ModelProto(), {}, {}, [])


def request(budget: str = "", **how: Any) -> Request:
    return Request(out=Path("x.shoe"), budget=Budget.parse(budget), **how)


@pytest.mark.parametrize(
    ("asked", "trained", "there_is"),
    [
        (request(), True, False),
        (request("latency<=0.5x"), True, True),
        (request("latency<=0.5x"), False, True),
        (request("size<=1MB"), False, True),
        (request("quality>=-1pt"), True, True),
        (request("quality>=-1pt"), False, False),
        (request("latency<=1ms, quality>=-1pt"), False, True),
        (request("memory<=30MB"), True, False),
        (request("latency<=0.5x", methods=("int8",)), True, False),
        (request("latency<=0.5x", start=Path("x.safetensors")), True, False),
    ],
)
def test_when_there_is_anything_to_plan(asked: Request, trained: bool, there_is: bool) -> None:
    assert plans(asked, replace(NOTHING, trained=trained)) == there_is


@dataclass
class World:
    """What `planned` calls, made up: a plan for a loss takes `ms(loss)`, moves `error(number)` of the outputs and is
    judged `points(loss)`; numbers count the plans that were made."""

    ms: Callable[[float], float] = lambda loss: 1.0
    error: Callable[[int], float] = lambda number: 0.0
    points: Callable[[float], float] = lambda loss: 0.0
    method: Callable[[int], str] = lambda number: f"int8:w{number}"
    met: Callable[[int], bool] = lambda number: True
    bytes: Callable[[int], float] = lambda number: 0.0
    losses: list[float | None] = field(default_factory=list)
    made: list[tuple[Request, tuple]] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    around: list[ModelProto] = field(default_factory=list)
    grown: list[float] = field(default_factory=list)
    picks: dict[str, str] = field(default_factory=lambda: {"a": "int8"})

    def put(self, patch: pytest.MonkeyPatch) -> None:
        ground = Ground(NOTHING, NETWORK, (), (), {}, (), 8.0, 4000.0)
        patch.setattr(module, "join", lambda: SimpleNamespace(leader=True, told=self.told.append))
        patch.setattr(module, "eight_bit", lambda *_: NETWORK)
        patch.setattr(module, "beside", lambda *_: 100)
        patch.setattr(module, "ground", lambda *_: ground)
        patch.setattr(module, "paying", lambda settled, samples, sized: settled)
        patch.setattr(module, "bare", lambda original, graph, bits: self.bytes(self.number(graph)))
        patch.setattr(module, "outputs", lambda graph, *_: np.array([[1.0 + self.error(self.number(graph))]]))
        patch.setattr(module, "floats", lambda original, graph: graph)
        for name in ("settle", "make", "recover", "quality", "around"):
            patch.setattr(module, name, getattr(self, f"_{name}"))

    @staticmethod
    def number(graph: ModelProto) -> int:
        """Of a plan that was made; the original's is 0."""
        return graph.ir_version

    def _settle(self, where: Ground, budget: Budget, samples: Any, report: Any, loss: float | None = None) -> Settled:
        self.losses.append(loss)
        self.grown.append(where.grown)
        number = len(self.losses)
        ms = self.ms(loss) if loss is not None else 1.0
        layers = tuple(PlannedLayer(name, (Considered(own, ms, 9, 0.0),), own) for name, own in self.picks.items())
        proposal = Proposal(
            "net",
            str(budget),
            DEVICE.to_json(),
            layers,
            {},
            {},
            {"latency": ms, "size": 900.0, "loss": loss or 0.0},
            methods=(self.method(number),),
            met=self.met(number),
            reason="" if self.met(number) else "latency<=1ms cannot be met",
        )
        return Settled(where, proposal, tuple(steps(self.picks)), ms)

    def _make(self, original: Any, samples: Any, request: Request, asked: tuple, report: Any, dense: Any) -> Made:
        self.made.append((request, asked))
        return Made(ModelProto(ir_version=len(self.losses)), DEVICE, NETWORK, NETWORK, {})

    def _recover(self, *given: Any) -> Made:
        self.recovered.append(len(self.losses))
        return self._make(*given)

    def _quality(self, ours: Any, theirs: Any, samples: Any) -> Quality:
        difference = self.points(self.losses[-1])
        return Quality("top-1", "pt", 90.0, 90.0 + difference, difference, difference - 1, difference + 1, 8)

    def _around(self, where: Ground, samples: Any, graph: ModelProto, report: Any) -> Ground:
        self.around.append(graph)
        return where

    def run(self, asked: Request, original: Original = NOTHING) -> Planned:
        """In a folder of its own."""
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
            return self.goes_on(replace(asked, out=Path(folder) / "x.shoe"), patch, original)

    def goes_on(self, asked: Request, patch: pytest.MonkeyPatch, original: Original = NOTHING) -> Planned:
        """With what is in the folder already."""
        self.put(patch)
        found = planned(original, Samples([], []), asked, lambda *_: None)
        assert found is not None
        return found


@given(st.floats(1e-6, 100), st.sampled_from([-2.0, -0.5]))
def test_the_fastest_plan_that_loses_no_more(edge: float, limit: float) -> None:
    """Points fall with the loss that is allowed, and the limit is met up to a loss of `edge`."""
    world = World(ms=lambda loss: 1 / (1 + loss), points=lambda loss: limit * loss / edge)
    found = world.run(request(f"quality>={limit}pt"))
    tried = world.losses
    assert 1 <= len(tried) <= TRIES
    holding = [loss for loss in tried if loss <= edge]
    chosen = max(holding) if holding else min(tried)
    assert found.settled.ms == 1 / (1 + chosen)
    assert found.made.judged is not None
    assert found.made.judged.difference == pytest.approx(limit * chosen / edge)
    # The next one never lies where it is known already what would be judged.
    for index, loss in enumerate(tried[1:], 1):
        assert not any(loss <= before <= edge or edge < before <= loss for before in tried[:index])
    (told,) = found.told
    assert told.count(" ms ") == len(tried)
    if 0.02 / 3 < edge < 0.06:
        assert chosen > edge / 2.1


def test_noise_of_a_judge_does_no_harm() -> None:
    """A larger loss that happens to hold is faster, and counts."""
    judged = iter([-2.0, -0.5, -0.5, -3.0])
    world = World(ms=lambda loss: 1 / (1 + loss), points=lambda loss: next(judged))
    found = world.run(request("quality>=-1pt"))
    holding = [world.losses[1], world.losses[2]]
    assert found.settled.ms == 1 / (1 + max(holding))


def test_no_plan_is_made_twice() -> None:
    """However many losses lead to it. What is between two plans is found in fewer."""
    world = World(method=lambda number: "int8", points=lambda loss: -0.5)
    found = world.run(request("quality>=-1pt", recipe=RECIPE))
    assert (len(world.losses), len(world.made), len(world.told)) == (TRIES, 1, 2)
    assert len(set(world.losses)) == TRIES
    assert found.made.judged is not None
    (told,) = found.told
    assert told.count(" ms ") == 1
    # Plans one and three are the same, which holds; two does not.
    world = World(
        method=lambda number: f"int8:w{(0, 4, 3, 4, 4)[number]}",
        points=lambda loss: -0.5 if len(world.losses) != 2 else -2.0,
    )
    world.run(request("quality>=-1pt"))
    first, second, third, fourth = world.losses
    assert first < third < fourth < second
    assert len(world.made) == 2


def test_the_same_plan_for_another_runtime_is_another() -> None:
    plan = World().run(request("latency<=1ms", rounds=0)).proposal
    assert module._same(plan, replace(plan, totals={}))
    assert not module._same(plan, replace(plan, methods=("int8",)))
    assert not module._same(plan, replace(plan, device={**plan.device, "runtime": "engine"}))


def test_the_limit_on_bytes_goes_along() -> None:
    world = World(points=lambda loss: -5.0)
    found = world.run(request("quality>=-1pt, size<=1MB"))
    assert found.proposal.budget == "quality>=-1pt, size<=1MB"
    assert None not in world.losses
    names = [made.checkpoints.name for made, _ in world.made]
    assert names == ["x.training", "x.training-2", "x.training-3", "x.training-4"]


def test_latency_and_quality_are_one_plan() -> None:
    """Of least loss; what was not trained, too."""
    for budget, original in (("latency<=1ms, quality>=-1pt", NOTHING), ("size<=1MB", replace(NOTHING, trained=False))):
        world = World()
        assert world.run(request(budget, rounds=0), original).made.judged is None
        assert world.losses == [None]


@pytest.mark.parametrize(
    ("errors", "rounds", "kept"),
    [
        ([0.5, 0.3, 0.4], 3, 2),
        ([0.5, 0.3, 0.2, 0.1], 2, 3),
        ([0.5, 0.6], 3, 1),
        ([0.5, 0.5], 1, 1),
        ([0.5], 0, 1),
    ],
)
def test_rounds_are_kept_while_the_loss_falls(errors: list[float], rounds: int, kept: int) -> None:
    world = World(error=lambda number: errors[number - 1] if number else 0.0)
    found = world.run(request("latency<=1ms", rounds=rounds))
    assert found.proposal.methods == (f"int8:w{kept}",)
    assert found.made.subject.ir_version == kept
    assert len(world.made) == min(rounds + 1, kept + 1)
    assert [graph.ir_version for graph in world.around] == list(range(1, len(world.made)))


@pytest.mark.parametrize(
    "world",
    [World(method=lambda number: "int8"), World(met=lambda number: number == 1)],
    ids=["the same plan", "beyond reach"],
)
def test_a_round_that_changes_nothing_is_not_made(world: World) -> None:
    found = world.run(request("latency<=1ms", rounds=3))
    assert found.made.subject.ir_version == 1
    assert (len(world.losses), len(world.made)) == (2, 1)


@pytest.mark.parametrize("how", [{"reconstruct": False}, {"recipe": Recipe(epochs=1, batch=4)}])
def test_no_rounds_where_nothing_is_fitted(how: dict[str, Any]) -> None:
    """Training comes after one plan; weights as they are have no losses around them."""
    world = World()
    world.run(request("latency<=1ms", rounds=3, **how))
    assert (len(world.made), world.around) == (1, [])


def test_a_file_that_is_larger_than_its_draft() -> None:
    """Is planned again with the bytes that it had more, 100 of which say what it is."""
    world = World(bytes=lambda number: 1100.0 if number == 1 else 700.0)
    found = world.run(request("size<=1000B", rounds=0))
    assert found.made.subject.ir_version == 2
    assert world.grown == [100, 100 + 1100 + 100 - 900]


def test_a_file_that_fits_is_made_once() -> None:
    world = World(bytes=lambda number: 800.0)
    world.run(request("size<=1000B", rounds=0))
    assert len(world.made) == 1


def test_a_file_that_is_trained_has_room_to_grow() -> None:
    """Its size is not looked at again before the receipt."""
    world = World(bytes=lambda number: 1100.0)
    world.run(request("size<=1000B", recipe=RECIPE))
    world.run(request("size<=0.5x", recipe=RECIPE))
    world.run(request("latency<=1ms", recipe=RECIPE))
    assert world.grown == [100 + GROWS * 1000, 100 + GROWS * 2000, 100]
    assert len(world.made) == 3


PROJECT = "blocks.0.project.0"
RECIPE = Recipe(epochs=1, batch=4)


@pytest.mark.parametrize(
    ("picks", "methods"),
    [
        ({PROJECT: "int8"}, ["lsq+"]),
        ({PROJECT: "fp32"}, ["int8"]),
        ({PROJECT: "magnitude:4x1@50%"}, ["magnitude", "int8"]),
    ],
)
def test_how_it_is_trained(picks: dict[str, str], methods: list[str], original: Original) -> None:
    """For the plan's runtime; where 8 bits are all that was planned, they are learned, and the rest as it is."""
    world = World(picks=picks)
    world.run(request("latency<=1ms", recipe=RECIPE), original)
    ((asked, found),) = world.made
    assert asked.runtime == "openvino"
    assert [step.method.CARD.name for step in found] == methods
    assert asked.recipe == (None if methods == ["int8"] else RECIPE)
    assert world.recovered == ([1] if "magnitude" in methods else [])


def test_where_nothing_is_reconstructed_training_finds_the_zeros(original: Original) -> None:
    world = World(picks={PROJECT: "magnitude:4x1@50%"})
    world.run(request("latency<=1ms", recipe=RECIPE, reconstruct=False), original)
    assert (len(world.made), world.recovered) == (1, [])


def test_what_cannot_be_trained_is_not_recovered(original: Original) -> None:
    """`make` says why not."""
    world = World(picks={PROJECT: "magnitude:4x1@50%"})
    world.run(request("latency<=1ms", recipe=RECIPE), replace(original, model=None))
    assert (len(world.made), world.recovered) == (1, [])


def test_without_a_torch_model_nothing_is_learned(original: Original) -> None:
    world = World()
    world.run(request("latency<=1ms", recipe=RECIPE), replace(original, model=None))
    ((asked, found),) = world.made
    assert (asked.recipe, [step.method.CARD.name for step in found]) == (None, ["int8"])


def test_nothing_is_trained_for_what_is_out_of_reach() -> None:
    """Without training the closest plan is made."""
    world = World(met=lambda number: False)
    with pytest.raises(NotMet, match=r"^budget: latency<=1ms cannot be met; nothing was trained$"):
        world.run(request("latency<=1ms", recipe=RECIPE))
    assert world.made == []
    assert world.told == [None]  # nobody waits for a plan
    assert not world.run(request("latency<=1ms")).proposal.met
    assert len(world.made) == 1


def test_a_stopped_fit_goes_on_with_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would be planned now."""
    asked = replace(request("latency<=1ms", rounds=0), out=tmp_path / "x.shoe")
    first = World(picks={"a": "magnitude:4x1@50%"}, method=lambda number: "the first")
    first.goes_on(asked, monkeypatch)
    again = World(picks={"a": "int8"}, method=lambda number: "another")
    found = again.goes_on(asked, monkeypatch)
    assert again.losses == []
    assert found.proposal.methods == ("the first",)
    ((_, made),) = again.made
    assert [step.setting for step in made] == [step.setting for step in steps(first.picks)]
    other = World()
    other.goes_on(replace(asked, budget=Budget.parse("latency<=2ms")), monkeypatch)
    assert len(other.losses) == 1


def test_a_process_that_helps_to_train(monkeypatch: pytest.MonkeyPatch, original: Original) -> None:
    """It measures nothing, and makes what the first one plans, until that plans no more."""
    own = steps({PROJECT: "magnitude:4x1@50%"})
    for budget, number in (("latency<=1ms", 1), ("quality>=-1pt", TRIES)):
        leader = World(picks={PROJECT: "magnitude:4x1@50%"})
        leader.run(request(budget, recipe=RECIPE), original)
        assert len(leader.told) == number + 1
        told = iter(leader.told)
        joined = SimpleNamespace(leader=False, told=lambda _, told=told: next(told))
        monkeypatch.setattr(module, "join", lambda joined=joined: joined)
        monkeypatch.setattr(module, "ground", None)
        seen: list[Any] = []
        monkeypatch.setattr(module, "recover", lambda *given, seen=seen: seen.append(given))
        assert planned(original, Samples([], []), request(budget, recipe=RECIPE), lambda *_: None) is None
        assert [[step.setting for step in given[3]] for given in seen] == [[step.setting for step in own]] * number
        assert list(told) == []
    assert {given[2].runtime for given in seen} == {"openvino"}


@pytest.fixture
def coarse(network: EightBit) -> ModelProto:
    """In 8 bits, weights in 3: far from the original."""
    return replace(network, precisions={n: replace(p, weights=3) for n, p in network.precisions.items()}).build()


def codes(graph: ModelProto) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Layer, codes and scales."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    makers = {node.output[0]: node for node in graph.graph.node}
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[1] in makers:
            stored = makers[node.input[1]].input
            yield node.name, known[stored[0]].astype(float), known[stored[1]].astype(float)


def test_as_floats(original: Original, coarse: ModelProto, inputs: list[np.ndarray]) -> None:
    """The same values; up to the grids of activations it computes the same."""
    found = floats(original.graph, coarse)
    ours = weights(found)
    for name, own, scales in codes(coarse):
        np.testing.assert_allclose(ours[name], own * scales.reshape(-1, *[1] * (own.ndim - 1)), rtol=1e-6)
        assert ours[name].dtype == np.float32
    theirs, same, before = (outputs(graph, "onnxruntime", inputs[2:8]) for graph in (coarse, found, original.graph))
    assert np.abs(same - theirs).max() < 0.2 * np.abs(before - theirs).max()
    assert not any(node.op_type.endswith("Linear") for node in found.graph.node)


def test_floats_stay_what_they_are(original: Original, network: EightBit) -> None:
    """Layers that are not quantised, and those that have another shape now."""
    mixed = floats(original.graph, network.build({"stem.0"}))
    ours, theirs = weights(mixed), weights(original.graph)
    assert {name for name in theirs if not np.array_equal(ours[name], theirs[name])} == {"stem.0"}
    assert floats(original.graph, original.graph) == original.graph


def test_decomposed_layers_are_taken_from_the_original(original: Original, samples: Samples) -> None:
    name = "blocks.0.depthwise.0"
    found = weights(floats(original.graph, draft(original, steps({name: "structured:n=2"}), samples)))
    assert np.array_equal(found[name], weights(original.graph)[name])
