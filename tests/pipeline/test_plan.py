"""Plans from menus made by hand, against every combination; what they say of themselves, and what is built of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from shoestring.compress import METHODS, int8, magnitude, structured_conv
from shoestring.compress.structured_conv.settings import Kept
from shoestring.core.blocks import Blocks
from shoestring.core.budget import Budget, Limit
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, Layer
from shoestring.core.proposal import Considered, Proposal
from shoestring.deploy import parity, runtimes
from shoestring.deploy.normal_form import violations
from shoestring.pipeline import plan as module
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.menus import Menus
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import JUDGED, Ground, around, ground, propose, steps
from shoestring.pipeline.post_training import EightBit, outputs
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.sensitivity import Loss, Sensitivity, Trial
from shoestring.pipeline.table import LatencyTable

NAMES = ("int8", "fp32", "int8:w4", "magnitude:4x1@50%", "structured:n=2")
UNITS = {"latency": "ms", "size": "B"}
Layers = Mapping[str, tuple[Considered, ...]]
Spent = Mapping[str, float]


def where(by_runtime: Mapping[str, tuple[Layers, Spent]], **how: Any) -> Ground:
    """The original takes 40 ms and 4000 bytes."""
    own = tuple(
        Menus(Device("a processor", (), 2, 1, runtime, "1"), layers, spent)
        for runtime, (layers, spent) in by_runtime.items()
    )
    nothing = Original("net", ModelProto(), (), ())
    return Ground(nothing, None, tuple(one.device for one in own), (), {}, own, 40.0, 4000.0, **how)


def alone(layers: Layers, spent: Spent | None = None, **how: Any) -> Ground:
    return where({"engine": (layers, spent or {"latency": 0.0, "size": 0.0})}, **how)


def budget(limits: Mapping[str, float]) -> Budget:
    return Budget(tuple(Limit(name, "<=", value, UNITS[name]) for name, value in limits.items()))


def totals(spent: Spent, picks: Iterable[Considered]) -> dict[str, float]:
    chosen = list(picks)
    return {
        "latency": spent["latency"] + sum(one.ms for one in chosen),
        "size": spent["size"] + sum(one.size for one in chosen),
        "loss": sum(one.loss for one in chosen),
    }


def every(layers: Layers, spent: Spent) -> list[dict[str, float]]:
    """Totals of all combinations."""
    return [totals(spent, picks) for picks in product(*layers.values())]


def fit(total: Mapping[str, float], limits: Mapping[str, float], but: str = "") -> bool:
    return all(total[name] <= limit for name, limit in limits.items() if name != but)


def picked(proposal: Proposal) -> list[Considered]:
    return [layer.picked for layer in proposal.layers]


@st.composite
def menus(draw: st.DrawFn, least: int = 0) -> tuple[Layers, Spent]:
    """Whole numbers, so that ties and limits that are met exactly are common, and sums are exact."""
    numbers = st.integers(least, 9)
    menu = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=len(NAMES))
    drawn = draw(st.lists(menu, min_size=1, max_size=4))
    layers = {
        f"layer{index}": tuple(Considered(name, *map(float, own)) for name, own in zip(NAMES, options, strict=False))
        for index, options in enumerate(drawn)
    }
    return layers, {"latency": float(draw(st.integers(0, 5))), "size": float(draw(st.integers(0, 5)))}


LIMITS = st.dictionaries(st.sampled_from(["latency", "size"]), st.integers(1, 40).map(float))


@given(menus(), menus(), LIMITS)
def test_the_least_loss_on_any_runtime(one: tuple[Layers, Spent], other: tuple[Layers, Spent], limits) -> None:
    """Of all combinations that hold the limits; the totals are those of the picks."""
    given = {"onnxruntime": one, "engine": other}
    found = propose(where(given), budget(limits))
    fitting = {runtime: [total for total in every(*own) if fit(total, limits)] for runtime, own in given.items()}
    assert found.met == (found.reason == "") == any(fitting.values())
    assert found.limits == limits
    layers, spent = given[found.device["runtime"]]
    assert [layer.layer for layer in found.layers] == list(layers)
    assert found.totals == totals(spent, picked(found))
    if found.met:
        assert fit(found.totals, limits)
        assert found.totals["loss"] == min(total["loss"] for own in fitting.values() for total in own)
        assert found.gap == pytest.approx(0, abs=1e-6)
    for runtime, own in fitting.items():
        if own:
            assert found.runtimes[runtime]["loss"] == min(total["loss"] for total in own)


@given(menus(), menus(), st.integers(0, 30), LIMITS)
def test_the_least_time_within_a_loss(one: tuple[Layers, Spent], other: tuple[Layers, Spent], loss, limits) -> None:
    given = {"onnxruntime": one, "engine": other}
    found = propose(where(given), budget(limits), float(loss))
    asked = limits | {"loss": loss}
    fitting = [total for own in given.values() for total in every(*own) if fit(total, asked)]
    assert found.met == bool(fitting)
    assert found.limits == asked
    assert found.totals == totals(given[found.device["runtime"]][1], picked(found))
    if found.met:
        assert fit(found.totals, asked)
        assert found.totals["latency"] == min(total["latency"] for total in fitting)


def test_of_equally_fast_ones_the_one_of_less_loss() -> None:
    layers = {"a": (Considered("int8", 1.0, 5, 3.0), Considered("fp32", 1.0, 5, 2.0))}
    assert propose(alone(layers), Budget(), 9.0).layers[0].pick == "fp32"


def test_of_equal_loss_the_faster_runtime() -> None:
    one, nothing = {"a": (Considered("int8", 2.0, 5, 1.0),)}, {"latency": 0.0, "size": 0.0}
    other = {"a": (Considered("int8", 1.0, 5, 1.0),)}
    both = where({"onnxruntime": (one, nothing), "engine": (other, nothing)})
    assert propose(both, Budget()).device["runtime"] == "engine"
    slower = both.scaled("engine", "latency", 3.0)
    assert propose(slower, Budget()).device["runtime"] == "onnxruntime"


TOLD = re.compile(r"(latency|size|loss)<=(\S+?)(?:ms|B)? cannot be met; \1<=([-+.\de]+?)(?:ms|B)? would do(?:;|$)")


@given(menus(), st.dictionaries(st.sampled_from(["latency", "size", "loss"]), st.integers(1, 9).map(float), min_size=1))
def test_what_cannot_be_met(case: tuple[Layers, Spent], limits: Mapping[str, float]) -> None:
    """The cheapest, and for each limit what would do in its place: the least of all combinations that hold the rest."""
    loss = limits.get("loss")
    rest = {name: limit for name, limit in limits.items() if name != "loss"}
    found = propose(alone(*case), budget(rest), loss)
    combinations = every(*case)
    assume(not any(fit(total, limits) for total in combinations))
    first = "loss" if loss is not None else "latency" if "latency" in limits else "size"
    assert not found.met
    assert found.totals[first] == min(total[first] for total in combinations)
    expected = {}
    for name, limit in limits.items():
        left = [total[name] for total in combinations if fit(total, limits, name)]
        if left and min(left) > limit:
            expected[name] = (limit, min(left))
    told = {name: (float(limit), float(least)) for name, limit, least in TOLD.findall(found.reason)}
    assert told == expected
    assert found.reason.startswith("on engine, ")
    if not expected:
        assert found.reason.endswith("the limits cannot be met together")
    for name, (_, least) in told.items():
        more = {**limits, name: least}
        again = propose(alone(*case), budget({k: v for k, v in more.items() if k != "loss"}), more.get("loss"))
        assert again.met


@pytest.mark.parametrize("scale", [1.23456, 0.98765, 1.0 / 3.0])
def test_what_would_do_really_does(scale: float) -> None:
    """However long its digits are."""
    layers = {name: (Considered("int8", 1.0, 7, 1.0), Considered("fp32", 3.0, 28, 0.0)) for name in "abc"}
    ours = alone(layers, {"latency": 0.1, "size": 1.0}).scaled("engine", "latency", scale)
    ((name, _, least),) = TOLD.findall(propose(ours, budget({"latency": 0.5})).reason)
    assert name == "latency"
    assert propose(ours, budget({"latency": float(least)})).met
    assert not propose(ours, budget({"latency": 0.999 * float(least)})).met


def test_the_runtime_that_comes_nearest() -> None:
    """Where no runtime holds the limit."""
    nothing = {"latency": 0.0, "size": 0.0}
    both = where({
        "onnxruntime": ({"a": (Considered("int8", 5.0, 5, 0.0), Considered("fp32", 9.0, 20, 0.0))}, nothing),
        "engine": ({"a": (Considered("int8", 4.0, 6, 8.0),)}, nothing),
    })  # fmt: skip
    assert propose(both, budget({"latency": 3.0})).device["runtime"] == "engine"
    assert propose(both, budget({"size": 3.0})).device["runtime"] == "onnxruntime"
    assert propose(both, budget({"latency": 5.0})).device["runtime"] == "onnxruntime"


@given(menus(), LIMITS, st.sampled_from([0.5, 1.25, 2.0]), st.integers(0, 9))
def test_what_was_measured_corrects_the_sums(case: tuple[Layers, Spent], limits, slower: float, more: int) -> None:
    """Milliseconds are multiplied, on that runtime, those that belong to no layer included; bytes come on top."""
    ours = alone(*case, beside=float(more)).scaled("engine", "latency", 2.0).scaled("engine", "latency", slower / 2)
    found = propose(ours.scaled("onnxruntime", "latency", 100.0), budget(limits))
    combinations = [corrected(case[1], picks, slower, more) for picks in product(*case[0].values())]
    fitting = [total["loss"] for total in combinations if fit(total, limits)]
    assert found.met == bool(fitting)
    assert found.totals == pytest.approx(corrected(case[1], picked(found), slower, more))
    if fitting:
        assert found.totals["loss"] == min(fitting)
        assert fit(found.totals, limits)


def corrected(spent: Spent, picks: Iterable[Considered], slower: float, more: float) -> dict[str, float]:
    plain = totals(spent, picks)
    return {**plain, "latency": slower * plain["latency"], "size": more + plain["size"]}


@given(menus(), LIMITS, st.lists(st.integers(0, 5), min_size=3, max_size=3), st.sampled_from([1.0, 2.0]))
def test_borders_between_floats_and_8_bits_take_time(case: tuple[Layers, Spent], limits, ms, scale: float) -> None:
    """One stands between each two neighbours. A plan that is said to hold the limits holds them with its borders; no
    plan is better than the best; and one without any border is found where it holds."""
    names = list(case[0])
    borders = {pair: float(own) for pair, own in zip(pairwise(names), ms, strict=False)}

    def whole(picks: Iterable[Considered]) -> dict[str, float]:
        floats = {name: one.option == "fp32" for name, one in zip(names, picks, strict=True)}
        between = sum(own for (one, other), own in borders.items() if floats[one] != floats[other])
        plain = totals(case[1], picks)
        return {**plain, "latency": scale * (plain["latency"] + between)}

    ours = alone(*case)
    ours = replace(ours, menus=(replace(ours.menus[0], borders=borders),)).scaled("engine", "latency", scale)
    found = propose(ours, budget(limits))
    assert found.totals == whole(picked(found))
    fitting = [whole(picks)["loss"] for picks in product(*case[0].values()) if fit(whole(picks), limits)]
    if found.met:
        assert fit(found.totals, limits)
        assert found.totals["loss"] >= min(fitting)
    if not any(borders.values()):
        assert found.met == bool(fitting)
        assert not fitting or found.totals["loss"] == min(fitting)
    if fit(whole([options[0] for options in case[0].values()]), limits):  # all in 8 bits
        assert found.met


def test_limits_relative_to_the_original() -> None:
    layers = {"a": (Considered("int8", 10.0, 1000, 1.0), Considered("fp32", 30.0, 4000, 0.0))}
    ours = alone(layers)
    assert ours.limits(Budget.parse("latency<=0.5x, size<=0.5x, quality>=-1pt")) == {"latency": 20.0, "size": 2000.0}
    assert ours.limits(Budget.parse("latency<=3ms, memory<=1MB")) == {"latency": 3.0}
    assert propose(ours, Budget.parse("latency<=0.5x")).layers[0].pick == "int8"
    assert propose(ours, Budget.parse("latency<=0.8x")).layers[0].pick == "fp32"
    found = propose(ours, Budget.parse("latency<=0.5x"))
    assert (found.model, found.budget, found.original) == ("net", "latency<=0.5x", {"latency": 40.0, "size": 4000.0})


@given(menus(), st.integers(1, 40).map(float))
def test_the_price_of_a_millisecond(case: tuple[Layers, Spent], limit: float) -> None:
    """It is the multiplier that bounds the loss best (Lagrangian duality), and never below 0; what a larger limit
    really saves never is, either."""
    found = propose(alone(*case), budget({"latency": limit}))
    assume(found.met)

    def bound(price: float) -> float:
        own = (min(one.loss + price * one.ms for one in options) for options in case[0].values())
        return sum(own) + price * (case[1]["latency"] - limit)

    price = found.prices["latency"]
    assert price >= 0
    assert all(bound(price) >= bound(other) - 1e-6 for other in np.linspace(0, 12, 49))
    more = propose(alone(*case), budget({"latency": limit + 1}))
    assert more.totals["loss"] <= found.totals["loss"]
    assert more.totals["loss"] >= bound(price) - price - 1e-6


def test_a_price_of_many_small_steps() -> None:
    """Where options lie close together, one more ms saves what its price says: here the loss is 1 / ms."""
    layers = {
        "a": tuple(
            Considered(f"magnitude:4x1@{index / 10:g}%", index / 100, 5, 100 / index) for index in range(100, 900)
        )
    }
    costs, one = alone(layers), 0.01
    for limit in (2.0, 4.0):
        found, more = (propose(costs, budget({"latency": limit + step + 1e-9})) for step in (0, one))
        saved = (found.totals["loss"] - more.totals["loss"]) / one
        assert found.prices["latency"] == pytest.approx(saved, rel=0.02) == pytest.approx(1 / limit**2, rel=0.02)
        fastest = propose(costs, Budget(), found.totals["loss"] + 1e-9)
        assert fastest.totals["latency"] == pytest.approx(found.totals["latency"])
        assert fastest.prices["latency"] == pytest.approx(1 / limit**2, rel=0.02)


def test_without_a_limit_nothing_has_a_price() -> None:
    layers = {"a": (Considered("int8", 1.0, 5, 1.0), Considered("fp32", 3.0, 20, 0.0))}
    assert propose(alone(layers), Budget()).prices == {}
    assert propose(alone(layers), Budget(), 9.0).prices == {}
    assert propose(alone(layers), budget({"latency": 9.0})).prices == {"latency": 0}


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_runners_up(scale: float) -> None:
    """What would be taken in the place of the pick: of `a` the one at the same price, of `b` the only other."""
    layers = {
        "a": (Considered("fp32", 4.0, 9, 0.0), Considered("int8", 2.0, 9, 2.0), Considered("int8:w4", 1.5, 9, 2.6)),
        "b": (Considered("fp32", 6.0, 9, 0.0), Considered("int8", 2.0, 9, 4.2)),
        "c": (Considered("int8", 0.0, 9, 1.0),),
    }
    ours = alone(layers).scaled("engine", "latency", scale)
    found = propose(ours, budget({"latency": 4.0 * scale}))
    assert found.prices["latency"] == pytest.approx(1.05 / scale)
    assert {layer.layer: (layer.pick, layer.runner_up) for layer in found.layers} == {
        "a": ("int8", "int8:w4"),
        "b": ("int8", "fp32"),
        "c": ("int8", ""),
    }
    left = {**layers, "a": tuple(one for one in layers["a"] if one.option != "int8")}
    again = propose(replace(ours, menus=alone(left).menus), budget({"latency": 4.0 * scale}))
    assert again.layers[0].pick == "int8:w4"


PICKS = {
    "a[0]": "structured:n=2",
    "a0": "int8",
    "b*": "magnitude:4x1@50%",
    "bc": "magnitude:4x1@35%, int8:w4",
    "n": "structured:n=2",
    "m.c:2": "structured:c=0.5",
    "d?": "fp32",
    "de": "int8:w4",
    "f[!]": "fp32",
    "f!": "structured:n=3",
}


def layers_of(names: Iterable[str], picks: Mapping[str, str]) -> list[Layer]:
    """With kernels of 5x5, where channels are summed of 1x1, and one more at each end."""
    sizes = {name: 1 if "c=" in picks.get(name, "") else 5 for name in names}
    return [
        Layer(name, CONV, "Conv", (8, 9, 9), (8, 9, 9), (8, 8, size, size))
        for name, size in {"first": 5, **sizes, "last": 5}.items()
    ]


def given_to(found: Iterable[Asked], layers: list[Layer]) -> dict[str, tuple[object, object, int]]:
    """What each layer gets: what is left of its kernel, its zeros, its bits."""
    by_method = {step.method.CARD.name: step.method.assign(layers, step.setting) for step in found}

    def own(method: str, layer: Layer, otherwise: object) -> Any:
        return by_method[method][layer.name] if method in by_method else otherwise

    return {
        layer.name: (
            own("structured", layer, structured_conv.Structured(Kept())).kept,
            own("magnitude", layer, magnitude.Magnitude(Blocks.parse("dense"))).blocks,
            own("int8", layer, int8.Int8()).bits,
        )
        for layer in layers
    }


def wanted(option: str) -> tuple[object, object, int]:
    words = dict(word.partition(":")[::2] for word in option.split(", "))
    share = words.get("structured", "dense").replace("=", "")
    kept = {"n2": Kept(n=2), "n3": Kept(n=3), "c0.5": Kept(c=0.5), "dense": Kept()}[share]
    bits = 32 if "fp32" in words else 4 if words.get("int8") == "w4" else 8
    return kept, Blocks.parse(words.get("magnitude", "dense")), bits


def test_picks_as_methods() -> None:
    """Each layer gets its pick and no other's, whatever letters its name has."""
    found, layers = steps(PICKS), layers_of(PICKS, PICKS)
    assert [step.method.CARD.name for step in found] == ["structured", "magnitude", "int8"]
    everything = {"first": "int8", **PICKS, "last": "int8"}
    assert given_to(found, layers) == {name: wanted(option) for name, option in everything.items()}


@given(
    st.dictionaries(
        st.text("abcn[]*?!-./_0", min_size=1, max_size=5), st.sampled_from([*PICKS.values()]), min_size=1, max_size=6
    )
)
def test_methods_say_it_again(picks: Mapping[str, str]) -> None:
    """What the command line would have to be told is read as the same settings."""
    found = steps(picks)
    texts = [str(step.setting) for step in found]
    again = [Asked(METHODS[text.partition(":")[0]], METHODS[text.partition(":")[0]].parse(text.partition(":")[2]))
             for text in texts]  # fmt: skip
    layers = layers_of(picks, picks)
    assert given_to(again, layers) == given_to(found, layers)
    assert {name: got for name, got in given_to(again, layers).items() if name in picks} == {
        name: wanted(option) for name, option in picks.items()
    }


def test_methods_of_a_proposal() -> None:
    layers = {
        "a": (Considered("magnitude:4x1@50%", 1.0, 5, 1.0),),
        "b": (Considered("fp32", 1.0, 5, 0.0),),
        "c": (Considered("int8", 1.0, 5, 0.0),),
    }
    assert propose(alone(layers), Budget()).methods == ("magnitude:dense:uniform:a=4x1@50%", "int8:b=fp32")


@pytest.fixture
def hand_made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`ground` with a table and losses that were made by hand; gets what was asked of whom."""
    seen: dict[str, Any] = {}

    def timed(original: Original, devices: list[Device], without: list[str], report) -> list[LatencyTable]:
        seen.update(devices=[device.runtime for device in devices], without=without)
        times = {layer.name: {"int8": 1.0, "fp32": 2.0} for layer in original.layers}
        return [LatencyTable("here", {}, times, {"int8": 0.5, "fp32": 0.5}) for _ in devices]

    def losses(network, trials: Mapping[str, Trial], inputs, judged, report, around=None) -> dict[str, Sensitivity]:
        seen.update(inputs=list(inputs), judged=list(judged), around=around)
        seen["bits"] = {trial.bits for trial in trials.values()}
        return {name: Sensitivity({}, {bits: Loss(0.1 if around else 0.2) for bits in own.bits}, {})
                for name, own in trials.items()}  # fmt: skip

    monkeypatch.setattr(module, "timed", timed)
    monkeypatch.setattr(module, "sensitivities", losses)
    monkeypatch.setattr(module, "against", lambda *_: ({}, 7.0))
    return seen


def quiet(stage: str, share: float) -> None:
    pass


def test_the_ground(original: Original, network: EightBit, samples: Samples, hand_made: dict[str, Any]) -> None:
    """Each runtime has its menus; losses are of inputs that nothing was fitted to."""
    found = ground(original, network, samples, Budget.parse("size<=0.5x"), None, 1, ["magnitude"], quiet)
    assert hand_made["devices"] == list(runtimes.installed())
    assert hand_made["without"] == ["magnitude"]
    assert hand_made["bits"] == {(8, 4)}
    held = len(network.held_out)
    assert all(x is y for x, y in zip(hand_made["judged"], samples.calibration[:held], strict=True))
    assert all(x is y for x, y in zip(hand_made["inputs"], samples.calibration[held:], strict=True))
    assert (found.original_ms, found.size) == (7.0, sum(layer.bytes for layer in original.layers))
    assert [own.device.runtime for own in found.menus] == hand_made["devices"]
    moved = around(found, samples, original.graph, quiet)
    assert hand_made["around"] is original.graph
    assert {one.loss for one in moved.menus[0].layers["stem.0"] if one.option != "fp32"} == {-np.log1p(-0.1)}
    assert {one.loss for one in found.menus[0].layers["stem.0"] if one.option != "fp32"} == {-np.log1p(-0.2)}


def test_losses_are_measured_with_a_few_inputs(original: Original, network: EightBit, samples, hand_made) -> None:
    """And fitted on all that are not held out."""
    many = replace(samples, calibration=[*samples.calibration] * 20)
    held = replace(network, held_out=many.calibration[:40])
    ground(original, held, many, Budget(), "onnxruntime", 1, (), quiet)
    assert (len(hand_made["judged"]), len(hand_made["inputs"])) == (JUDGED, 120)
    assert hand_made["devices"] == ["onnxruntime"]
    assert hand_made["bits"] == {(8,)}


@pytest.mark.parametrize(
    ("name", "why"),
    [("pruning", "unknown method 'pruning'; known are int8, "), ("int8", "int8 is what plans are made of, and stays")],
)
def test_what_cannot_be_left_out(name: str, why: str, original: Original, network: EightBit, samples) -> None:
    with pytest.raises(BadInput, match=f"^--without: {why}"):
        ground(original, network, samples, Budget(), None, 1, ["magnitude", name], quiet)


def integer_layers(graph: ModelProto) -> set[str]:
    """Layers whose weight is stored as int8, in the exported graph."""
    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    makers = {name: node for node in graph.graph.node for name in node.output}
    weighted = (node for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul"))
    weights = {node.name: makers.get(node.input[1]) for node in weighted}
    return {name for name, maker in weights.items() if maker and stored[maker.input[0]] == TensorProto.INT8}


MIXED = [
    {"stem.0"},
    {"classifier"},
    {"blocks.0.depthwise.0", "blocks.1.project.0"},
    {"stem.0", "blocks.0.project.0", "classifier"},
    {"blocks.0.depthwise.0", "blocks.0.project.0", "blocks.1.depthwise.0", "blocks.1.project.0"},
]


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
@pytest.mark.parametrize("layers", MIXED, ids=lambda layers: "+".join(sorted(layers)))
def test_the_parity_gate_holds_on_mixed_plans(layers: set[str], runtime: str, network: EightBit, inputs) -> None:
    graph = network.build(layers)
    assert integer_layers(graph) == layers
    assert violations(graph) == []
    compared = parity.compare(graph, runtime, inputs[:2])
    assert compared.edges
    parity.gate(compared)
    # The two runtimes agree with each other, and with the original as far as 8 bits allow on what was calibrated on.
    seen = inputs[2:8]
    found, original = outputs(graph, runtime, seen), outputs(network.graph, "onnxruntime", seen)
    assert np.abs(found - outputs(graph, "onnxruntime", seen)).max() < 0.02 * np.ptp(original)
    assert np.abs(found - original).max() < 0.1 * np.ptp(original)
