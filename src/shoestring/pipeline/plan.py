"""The plan: per layer fp32 or 8 bits, from measured costs and measured losses, until the *measured* latency holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from shoestring.core.budget import Budget
from shoestring.core.choose import cheapest, choose
from shoestring.core.counts import dense
from shoestring.core.device import Device
from shoestring.core.errors import NotMet
from shoestring.core.layer import Layer
from shoestring.core.plan import Menu, Option, Plan
from shoestring.pipeline.post_training import EightBit, loss, outputs
from shoestring.pipeline.stopwatch import milliseconds
from shoestring.pipeline.table import FLOAT, LatencyTable

INT8 = "int8"
# Inputs on which each layer's loss is measured: enough to rank layers, few enough to try every one.
SENSITIVITY_INPUTS = 6
REPLANS = 3

Progress = Callable[[str, float], object]


@dataclass(frozen=True)
class Chosen:
    """`picks`: layer to option. `met`: whether the table says that the budget holds; `reason`: why not. `plan`: totals
    and shadow prices, None when nothing was planned."""

    picks: Mapping[str, str]
    met: bool = True
    reason: str = ""
    plan: Plan | None = None

    @property
    def quantised(self) -> set[str]:
        """The layers that do not stay in fp32."""
        return {layer for layer, option in self.picks.items() if option != FLOAT}


def everywhere(network: EightBit, reason: str = "") -> Chosen:
    """8 bits in every layer that can."""
    return Chosen(dict.fromkeys(network.precisions, INT8), not reason, reason)


def planned(
    layers: Sequence[Layer], network: EightBit, table: LatencyTable, budget: Budget, device: Device, report: Progress
) -> tuple[Chosen, ModelProto]:
    """The plan of least loss within the budget, and its graph. Without a latency or size limit all layers take 8 bits.
    When no plan meets the limits: the fastest there is, with the reason."""
    asked = _asked(layers, table, budget)
    if not asked:
        return everywhere(network), network.build()
    limits = _limits(asked, [layer for layer in layers if layer.name not in network.precisions], table)
    nearest = choose_layers(menus(layers, table, dict.fromkeys(network.precisions, 1.0)), limits)
    if not nearest.met:
        reason = _missed(nearest, asked, limits)
        return _nearer(replace(nearest, reason=reason), everywhere(network, reason), network, device)
    losses = sensitivities(network, lambda share: report("sensitivity of layers", share))
    scale = 1.0
    for _ in range(REPLANS):
        chosen = choose_layers(menus(layers, table, losses, scale), limits)
        if not chosen.met:
            chosen = replace(chosen, reason=_missed(chosen, asked, limits))
            break
        graph = network.build(chosen.quantised)
        if "latency" not in limits:
            return chosen, graph
        took, most = _timed(graph, network, budget, device)
        if took <= most:
            return chosen, graph
        # The table left something out (a border between fp32 and 8 bits costs); plan again with dearer layers.
        scale *= 1.02 * took / most
    # Borders can cost more than the layers gain; a network without any may still be the faster one.
    return _nearer(chosen, everywhere(network), network, device)


def _timed(graph: ModelProto, network: EightBit, budget: Budget, device: Device) -> tuple[float, float]:
    """Milliseconds that `graph` takes and may take. A share of the original's is taken of what that takes now, in
    turns: the table was measured at another time, and a machine that was busy then would move the limit."""
    limit = budget.get("latency")
    assert limit is not None, "asked for"
    entrants = {"planned": (graph, device.runtime)}
    if limit.relative:
        entrants[FLOAT] = (network.graph, device.runtime)
    times = milliseconds(entrants, device.threads)
    return times["planned"], limit.value * times[FLOAT] if limit.relative else limit.value


def menus(layers: Sequence[Layer], table: LatencyTable, losses: Mapping[str, float], scale: float = 1.0) -> list[Menu]:
    """One menu a layer of `losses`: fp32 without loss, or 8 bits with its own. `scale` corrects the table's costs."""
    found = []
    for layer in layers:
        if layer.name in losses and layer.name in table.layers:
            times = table.layers[layer.name]
            options = tuple(
                Option(name, {"latency": times[name] * scale, "size": dense(layer, weight_bits=bits).bytes}, lost)
                for name, bits, lost in ((FLOAT, 32, 0.0), (INT8, 8, losses[layer.name]))
            )
            found.append(Menu(layer.name, options))
    return found


def choose_layers(entries: Sequence[Menu], limits: Mapping[str, float]) -> Chosen:
    """The least loss within `limits` (ms, bytes); when they cannot be met, the cheapest plan and why."""
    try:
        best, reason = choose(entries, limits), ""
    except NotMet as unmet:
        best, reason = cheapest(entries, "latency" if "latency" in limits else "size"), str(unmet)
    return Chosen({item: option.name for item, option in best.picks.items()}, not reason, reason, best)


def sensitivities(network: EightBit, progress: Callable[[float], object] | None = None) -> dict[str, float]:
    """Points of divergence that each layer causes when it alone is in 8 bits."""
    inputs = network.held_out[:SENSITIVITY_INPUTS]
    original = outputs(network.graph, "onnxruntime", inputs)
    found = {}
    for index, name in enumerate(network.precisions):
        # Never quite nothing, so that of two harmless layers the slower one is chosen.
        found[name] = max(loss(network.build({name}), original, inputs), float(np.finfo(float).eps))
        if progress is not None:
            progress((index + 1) / len(network.precisions))
    return found


def _nearer(one: Chosen, other: Chosen, network: EightBit, device: Device) -> tuple[Chosen, ModelProto]:
    """Beyond reach: of the table's cheapest plan and 8 bits everywhere, the one that is measured to be faster."""
    graphs = network.build(one.quantised), network.build(other.quantised)
    times = milliseconds({"one": (graphs[0], device.runtime), "other": (graphs[1], device.runtime)}, device.threads)
    return (one, graphs[0]) if times["one"] < 0.98 * times["other"] else (other, graphs[1])


def _asked(layers: Sequence[Layer], table: LatencyTable, budget: Budget) -> dict[str, float]:
    """The limits that a plan can meet, for the whole network: ms, bytes."""
    originals = {"latency": table.totals[FLOAT], "size": sum(dense(layer).bytes for layer in layers)}
    limits = ((name, budget.get(name)) for name in originals)
    return {name: limit.value * originals[name] if limit.relative else limit.value for name, limit in limits if limit}


def _limits(asked: Mapping[str, float], others: Sequence[Layer], table: LatencyTable) -> dict[str, float]:
    """What the layers with a choice may take in sum: what is asked less what the `others` and no layer take."""
    spent = {
        "latency": table.rest[INT8] + sum(table.layers[layer.name][INT8] for layer in others),
        "size": sum(dense(layer).bytes for layer in others),
    }
    return {name: value - spent[name] for name, value in asked.items()}


def _missed(nearest: Chosen, asked: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """By how much the cheapest plan misses, in the budget's own terms."""
    totals = nearest.plan.totals if nearest.plan else {}
    units = {"latency": "ms", "size": "bytes"}
    least = {name: asked[name] - limits[name] + totals[name] for name in asked}
    told = [f"{name} {least[name]:.4g} {units[name]}, asked {asked[name]:.4g}" for name in asked]
    return f"the cheapest one is expected at {'; '.join(told)}"
