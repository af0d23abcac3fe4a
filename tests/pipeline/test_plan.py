"""Plans from latency tables made by hand: what is chosen, and that what was chosen is what is built."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.layer import CONV, OTHER, Layer
from shoestring.core.plan import Menu
from shoestring.deploy import parity, runtimes
from shoestring.deploy.normal_form import violations
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import Chosen, choose_layers, everywhere, menus, planned, sensitivities
from shoestring.pipeline.post_training import EightBit, outputs
from shoestring.pipeline.table import LatencyTable

BYTES = {"a": 4 * (72 + 4), "b": 4 * (144 + 4), "c": 4 * (36 + 4)}  # fp32, with biases
BYTES8 = {
    "a": 72 + 8 * 4,
    "b": 144 + 8 * 4,
    "c": 36 + 8 * 4,
}  # a byte a weight; 32 bits for each bias and scale
ABC = tuple(
    Layer(name, CONV, "Conv", (inputs, 8, 8), (4, 8, 8), (4, inputs, 3, 3), bias=True)
    for name, inputs in (("a", 2), ("b", 4), ("c", 1))
)


def table_of(fp32: dict[str, float], int8: dict[str, float], rest: float = 0.0) -> LatencyTable:
    totals = {"fp32": sum(fp32.values()) + rest, "int8": sum(int8.values()) + rest}
    layers = {name: {"fp32": fp32[name], "int8": int8[name]} for name in fp32}
    return LatencyTable("here", totals, layers, {"fp32": rest, "int8": rest})


TABLE = table_of({"a": 4.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": 2.0})
LOSSES = {"a": 3.0, "b": 1.0, "c": 0.5}


def best_by_force(entries: list[Menu], limits: dict[str, float]) -> float | None:
    """The least loss of all combinations within the limits."""
    fitting = (
        sum(option.loss for option in picks)
        for picks in product(*(menu.options for menu in entries))
        if all(sum(option.costs[name] for option in picks) <= limit for name, limit in limits.items())
    )
    return min(fitting, default=None)


def test_menus() -> None:
    relu = Layer("relu", OTHER, "ReLU", (4, 8, 8), (4, 8, 8))
    found = menus([*ABC, relu], TABLE, LOSSES, scale=2.0)
    assert [menu.item for menu in found] == ["a", "b", "c"]
    for menu in found:
        float_, integer = menu.options
        assert (float_.name, float_.loss) == ("fp32", 0.0)
        assert (integer.name, integer.loss) == ("int8", LOSSES[menu.item])
        assert float_.costs == {"latency": 2 * TABLE.layers[menu.item]["fp32"], "size": BYTES[menu.item]}
        assert integer.costs == {"latency": 2 * TABLE.layers[menu.item]["int8"], "size": BYTES8[menu.item]}


@pytest.mark.parametrize(
    ("limits", "quantised"),
    [
        ({"latency": 7.0}, set()),
        ({"latency": 6.0}, {"b"}),  # the least loss that saves 1
        ({"latency": 4.0}, {"a"}),
        ({"latency": 3.0}, {"a", "b"}),
        ({"size": sum(BYTES.values()) - 100}, {"c"} if BYTES["c"] - BYTES8["c"] >= 100 else {"b"}),
        ({"latency": 7.0, "size": sum(BYTES8.values())}, {"a", "b", "c"}),
    ],
)
def test_the_least_loss_within_the_limits(limits: dict[str, float], quantised: set[str]) -> None:
    entries = menus(ABC, TABLE, LOSSES)
    chosen = choose_layers(entries, limits)
    assert chosen.met
    assert chosen.quantised == quantised
    assert sum(LOSSES[name] for name in quantised) == best_by_force(entries, limits)


@pytest.mark.parametrize("limits", [{"latency": 2.9}, {"latency": 3.0, "size": sum(BYTES8.values())}, {"size": 10.0}])
def test_limits_that_no_plan_meets_give_the_cheapest_and_the_reason(limits: dict[str, float]) -> None:
    entries = menus(ABC, TABLE, LOSSES)
    chosen = choose_layers(entries, limits)
    assert best_by_force(entries, limits) is None
    assert not chosen.met
    assert chosen.reason
    assert chosen.quantised == ({"a", "b"} if "latency" in limits else {"a", "b", "c"})


def test_a_layer_made_sensitive_ranks_first(network: EightBit) -> None:
    """The range of the edge between two layers is made a thousand times too wide: all that passes becomes 0."""
    edge, ends = "blocks.0.depthwise.0/clip", {"blocks.0.depthwise.0", "blocks.0.project.0"}
    wide = replace(network.histograms[edge], high=1000 * network.histograms[edge].high)
    before = sensitivities(network)
    shares: list[float] = []
    after = sensitivities(replace(network, histograms={**network.histograms, edge: wide}), shares.append)
    assert list(after) == list(network.precisions)
    assert set(sorted(after, key=after.__getitem__)[-2:]) == ends
    assert {name for name in after if after[name] != before[name]} == ends
    assert min(after.values()) > 0
    assert shares == pytest.approx([(index + 1) / len(after) for index in range(len(after))])


def integer_layers(graph: ModelProto) -> set[str]:
    """Layers whose weight is stored as int8, in the exported graph."""
    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    makers = {name: node for node in graph.graph.node for name in node.output}
    weighted = (node for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul"))
    weights = {node.name: makers.get(node.input[1]) for node in weighted}
    return {name for name, maker in weights.items() if maker and stored[maker.input[0]] == TensorProto.INT8}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, set[str]], float]], list[set[str]]]:
    """`measured(f)`: a graph with these integer layers, timed under a name, takes f(name, layers) ms. Returns the list
    that gets the integer layers of each graph that was timed."""

    def takes(milliseconds: Callable[[str, set[str]], float]) -> list[set[str]]:
        timed: list[set[str]] = []

        def stopwatch(entrants: dict[str, tuple[ModelProto, str]], threads: int) -> dict[str, float]:
            layers = {name: integer_layers(graph) for name, (graph, _) in entrants.items()}
            timed.extend(layers.values())
            return {name: milliseconds(name, found) for name, found in layers.items()}

        monkeypatch.setattr("shoestring.pipeline.plan.milliseconds", stopwatch)
        return timed

    return takes


@pytest.fixture
def dear(original: Original) -> LatencyTable:
    """Every layer takes 1 ms. 8 bits are dear in the depthwise ones and halve the other weighted ones; 0.5 ms belong to
    no layer."""
    int8 = {layer.name: 3.0 if "depthwise" in layer.name else 0.5 if layer.weight else 1.0 for layer in original.layers}
    return table_of(dict.fromkeys(int8, 1.0), int8, rest=0.5)


def predicted(table: LatencyTable, layers: set[str]) -> float:
    return table.predict(dict.fromkeys(layers, "int8"))


def test_without_limits_every_layer_takes_8_bits(original, network: EightBit, dear, device: Device, measured) -> None:
    timed = measured(lambda name, layers: 1.0)
    chosen, graph = planned(original.layers, network, dear, Budget.parse("quality>=-1pt"), device, lambda *_: None)
    assert chosen == everywhere(network)
    assert chosen.met
    assert integer_layers(graph) == chosen.quantised == set(network.precisions)
    assert timed == []


def test_layers_that_8_bits_make_slower_stay_float(original, network, dear, device: Device, measured) -> None:
    """The fastest plan there is: everything but the depthwise layers."""
    wanted = {name for name in network.precisions if "depthwise" not in name}
    least = 0.5 + len(original.layers) - 0.5 * len(wanted)
    measured(lambda name, layers: predicted(dear, layers))
    stages: list[str] = []
    budget = Budget.parse(f"latency<={least + 0.01}ms")
    chosen, graph = planned(original.layers, network, dear, budget, device, lambda stage, share: stages.append(stage))
    assert chosen.met
    assert integer_layers(graph) == chosen.quantised == wanted
    assert set(stages) == {"sensitivity of layers"}


def test_a_loose_budget_costs_nothing(original, network: EightBit, dear, device: Device, measured) -> None:
    """The whole network in fp32 fits: no layer is touched."""
    measured(lambda name, layers: predicted(dear, layers))
    chosen, graph = planned(original.layers, network, dear, Budget.parse("latency<=1.5x"), device, lambda *_: None)
    assert chosen.met
    assert integer_layers(graph) == chosen.quantised == set()
    assert graph == network.graph


def test_what_the_table_left_out_makes_the_planner_try_again(original, network, device: Device, measured) -> None:
    """Each plan is measured to be a fifth slower than the table says, until it fits all the same."""
    fp32 = {layer.name: 1.0 if layer.weight else 0.0 for layer in original.layers}
    table = table_of(fp32, {name: ms / 2 for name, ms in fp32.items()})
    timed = measured(lambda name, layers: 1.2 * predicted(table, layers))
    asked = 5.0  # of six layers two in 8 bits would do; with a fifth more four, as 1.2 x 4 = 4.8
    chosen, graph = planned(
        original.layers, network, table, Budget.parse(f"latency<={asked}ms"), device, lambda *_: None
    )
    assert chosen.met
    assert [len(layers) for layers in timed] == [2, 4]
    assert 1.2 * predicted(table, chosen.quantised) <= asked
    assert integer_layers(graph) == chosen.quantised == timed[-1]


def test_a_table_of_a_busy_hour_does_not_move_the_limit(original, network, device: Device, measured) -> None:
    """It says 2 ms a layer in fp32 and 0.5 in 8 bits, where now it is 1 and 0.5: what is a share of the original is
    judged by what that takes now."""
    busy = {layer.name: 2.0 if layer.weight else 0.0 for layer in original.layers}
    table = table_of(busy, {name: ms / 4 for name, ms in busy.items()})

    def now(name: str, layers: set[str]) -> float:
        return len(network.precisions) - 0.5 * len(layers)

    measured(now)
    chosen, _ = planned(original.layers, network, table, Budget.parse("latency<=0.7x"), device, lambda *_: None)
    assert chosen.met
    assert now("planned", chosen.quantised) <= 0.7 * now("fp32", set())


@pytest.mark.parametrize("faster", ["cheapest plan", "8 bits everywhere"])
def test_beyond_reach_the_faster_of_two_is_taken(faster, original, network, dear, device: Device, measured) -> None:
    """The cheapest plan of the table keeps the depthwise layers in fp32; what is measured decides."""
    mixed = {name for name in network.precisions if "depthwise" not in name}
    measured(lambda name, layers: 1.0 if (layers == mixed) == (faster == "cheapest plan") else 2.0)
    chosen, graph = planned(original.layers, network, dear, Budget.parse("latency<=0.01x"), device, lambda *_: None)
    assert not chosen.met
    assert chosen.quantised == (mixed if faster == "cheapest plan" else set(network.precisions))
    assert integer_layers(graph) == chosen.quantised
    total, least = dear.totals["fp32"], 0.5 + len(original.layers) - 0.5 * len(mixed)
    assert chosen.reason == f"the cheapest one is expected at latency {least:.4g} ms, asked {0.01 * total:.4g}"


def test_layers_without_a_choice_count(original, network: EightBit, device: Device, measured) -> None:
    """The budget is what all layers take: what the depthwise layers take is not there for the others to spend."""
    fewer = replace(network, precisions={k: v for k, v in network.precisions.items() if "depthwise" not in k})
    names = [layer.name for layer in original.layers]
    table = table_of(dict.fromkeys(names, 1.0), dict.fromkeys(names, 1.0) | dict.fromkeys(fewer.precisions, 0.5))
    measured(lambda name, layers: predicted(table, layers))
    asked = len(names) - 0.5 * len(fewer.precisions)
    chosen, _ = planned(original.layers, fewer, table, Budget.parse(f"latency<={asked}ms"), device, lambda *_: None)
    assert chosen.met
    assert chosen.quantised == set(fewer.precisions)
    sizes = {layer.name: layer.bytes for layer in original.layers}
    asked = sum(sizes.values()) - 1
    chosen, _ = planned(original.layers, fewer, table, Budget.parse(f"size<={asked}B"), device, lambda *_: None)
    assert chosen.met
    assert len(chosen.quantised) == 1


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


def test_chosen_without_a_plan() -> None:
    assert Chosen({"a": "int8", "b": "fp32"}).quantised == {"a"}
