"""The plan: of all options of all layers, on all runtimes that come into question, the ones of least loss within the
limits, or those of least time within a loss; from measured costs and measured losses."""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape

import numpy as np
from onnx import ModelProto

from shoestring.compress import METHODS, int8, magnitude, structured_conv
from shoestring.compress.int8.method import NAMED
from shoestring.compress.int8.method import UNCHANGED as FLOATS
from shoestring.compress.structured_conv.settings import DENSE as WHOLE
from shoestring.compress.structured_conv.settings import Structured
from shoestring.core.blocks import DENSE, Blocks
from shoestring.core.budget import Budget
from shoestring.core.choose import cheapest, choose, totals, up
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NotMet
from shoestring.core.plan import Menu, Option, Plan
from shoestring.core.proposal import UNCHANGED, Considered, PlannedLayer, Proposal
from shoestring.deploy import runtimes
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.borders import crossed
from shoestring.pipeline.device import here
from shoestring.pipeline.menus import EIGHT, Menus, menus, timed, trials
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.sensitivity import JUDGED, Sensitivity, Trial, sensitivities
from shoestring.pipeline.stopwatch import against
from shoestring.pipeline.table import LatencyTable

_AGAIN = 4  # plans with room for the borders of the one before
FIRST = 0.02  # of losses that are tried where only quality is limited
LIMITED = ("latency", "size", "quality")  # what a plan can do something about


@dataclass(frozen=True)
class Ground:
    """What plans are made of: `tables` and `menus` for each of `devices`, `trials` by layer. `original_ms`: fp32 on its
    best stock runtime; `size`: bytes of its weights. `scales`: by runtime, what measuring whole plans made of the sums
    of milliseconds (`latency`). `beside`: bytes of a file beside its weights, as measured; `grown`: those that a file
    has more than a draft of it."""

    original: Original
    network: EightBit
    devices: tuple[Device, ...]
    tables: tuple[LatencyTable, ...]
    trials: Mapping[str, Trial]
    menus: tuple[Menus, ...]
    original_ms: float
    size: float
    scales: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    beside: float = 0.0
    grown: float = 0.0

    def limits(self, budget: Budget) -> dict[str, float]:
        """Of the whole network: ms, bytes."""
        wholes = {"latency": self.original_ms, "size": self.size}
        asked = ((name, budget.get(name)) for name in wholes)
        return {name: limit.value * wholes[name] if limit.relative else limit.value for name, limit in asked if limit}

    def scaled(self, runtime: str, cost: str, factor: float) -> "Ground":
        """With costs on a runtime that are `factor` times what they were."""
        own = dict(self.scales.get(runtime, {}))
        own[cost] = own.get(cost, 1.0) * factor
        return replace(self, scales={**self.scales, runtime: own})

    def scale(self, runtime: str, cost: str) -> float:
        return self.scales.get(runtime, {}).get(cost, 1.0)


def ground(  # noqa: PLR0913 - what `fit` and `explain` know
    original: Original,
    network: EightBit,
    samples: Samples,
    budget: Budget,
    runtime: str | None,
    threads: int,
    without: Collection[str],
    report: Progress,
) -> Ground:
    """Times every option on `runtime`, or on each that is here, and measures what they do to the outputs. Raises
    BadInput for a method that there is not."""
    require_known(without)
    devices = [here(name, threads) for name in ([runtime] if runtime else runtimes.installed())]
    tables = timed(original, devices, without, partial(report, "latency table"))
    asked = trials(original, tables, budget.get("size") is not None)
    losses = sensitivities(network, asked, *_apart(network, samples), partial(report, "sensitivity of layers"))
    size = float(sum(layer.bytes for layer in original.layers))
    found = _menus(original, tables, asked, losses, devices)
    ms = against({}, original.graph, threads)[1]
    return Ground(original, network, tuple(devices), tuple(tables), asked, found, ms, size)


def require_known(without: Collection[str]) -> None:
    """Raises BadInput for a method that there is not, and for the one that no plan is made without."""
    if unknown := [name for name in without if name not in METHODS]:
        raise BadInput(f"--without: unknown method {unknown[0]!r}; known are {', '.join(METHODS)}")
    if EIGHT in without:
        raise BadInput(f"--without: {EIGHT} is what plans are made of, and stays; name others")


def _apart(network: EightBit, samples: Samples) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """Inputs to fit on, and others to measure losses with."""
    held = network.held_out
    return samples.calibration[len(held) :] or samples.calibration, held[:JUDGED]


def _menus(
    original: Original,
    tables: Sequence[LatencyTable],
    asked: Mapping[str, Trial],
    losses: Mapping[str, Sensitivity],
    devices: Sequence[Device],
) -> tuple[Menus, ...]:
    pairs = zip(devices, tables, strict=True)
    return tuple(menus(original, device, table, asked, losses) for device, table in pairs)


def around(where: Ground, samples: Samples, graph: ModelProto, report: Progress) -> Ground:
    """`where` with losses as they are when all other layers are those of `graph`, a float network: what each option
    does to the outputs then, beyond what the layer as it was would."""
    inputs, held = _apart(where.network, samples)
    share = partial(report, "sensitivity around the plan")
    losses = sensitivities(where.network, where.trials, inputs, held, share, graph)
    return replace(where, menus=_menus(where.original, where.tables, where.trials, losses, where.devices))


def propose(where: Ground, budget: Budget, loss: float | None = None, margin: float = 1.0) -> Proposal:
    """The plan on the runtime where it is best. With `loss`, the fastest one of no more loss than that; else the one of
    least loss within the limits on latency and size, of which it may use the share `margin`. Where they cannot be met:
    the cheapest, with the reason."""
    limits, own_loss = where.limits(budget), {} if loss is None else {"loss": loss}
    used = {name: margin * limit for name, limit in limits.items()} | own_loss
    found = [(own, *_planned(where, own, used, loss is not None, margin)) for own in where.menus]
    aim = "latency" if loss is not None else "loss"

    def rank(one: tuple[Menus, Plan, str]) -> tuple[bool, float, float]:
        own, plan, reason = one
        totals = _totals(where, own, plan)
        missed = "loss" if loss is not None else "latency" if "latency" in limits else "size"
        return bool(reason), totals[missed if reason else aim], totals["latency"]

    own, plan, reason = min(found, key=rank)
    return Proposal(
        model=where.original.name,
        budget=str(budget),
        device=own.device.to_json(),
        layers=tuple(_layer(where, own, name, plan, loss is not None) for name in own.layers),
        original={"latency": where.original_ms, "size": where.size},
        limits=limits | own_loss,
        totals=_totals(where, own, plan),
        prices=_prices(where, own, plan, loss is not None),
        gap=plan.gap,
        methods=tuple(str(step.setting) for step in steps({name: o.name for name, o in plan.picks.items()})),
        runtimes={each.device.runtime: _totals(where, each, other) for each, other, _ in found},
        met=not reason,
        reason=reason,
    )


def steps(picks: Mapping[str, str]) -> list[Asked]:
    """The methods that make each layer what was picked for it, in the order in which they apply."""
    parts = {layer: dict(part.partition(":")[::2] for part in option.split(", ")) for layer, option in picks.items()}
    found = []
    if shapes := _named(parts, structured_conv.CARD.name):
        layers = tuple((name, structured_conv.parse(text).kept) for name, text in shapes)
        found.append(Asked(structured_conv, Structured(WHOLE, layers=layers)))
    if zeros := _named(parts, magnitude.CARD.name):
        named = tuple((name, Blocks.parse(text)) for name, text in zeros)
        found.append(Asked(magnitude, magnitude.Magnitude(DENSE, magnitude.UNIFORM, layers=named)))
    low = [(name, NAMED[text]) for name, text in _named(parts, EIGHT) if text]
    floats = [(name, FLOATS) for name, _ in _named(parts, UNCHANGED)]
    return [*found, Asked(int8, int8.Int8(layers=(*low, *floats)))]


def _named(parts: Mapping[str, Mapping[str, str]], method: str) -> list[tuple[str, str]]:
    """(pattern that matches the layer and nothing else, what it gets) of the layers that take a method."""
    return [(_matching(layer.partition(":")[0]), own[method]) for layer, own in parts.items() if method in own]


def _matching(name: str) -> str:
    # `c=` and `n=` begin words of another meaning in a setting of `structured`.
    return f"[{name}]" if name in ("c", "n") else escape(name)


def _planned(where: Ground, own: Menus, limits: Mapping[str, float], fastest: bool, margin: float) -> tuple[Plan, str]:
    """The plan on one runtime, and why it misses the limits where it does."""
    scale = where.scale(own.device.runtime, "latency")
    entries = [
        Menu(name, tuple(_option(one, scale, fastest) for one in options)) for name, options in own.layers.items()
    ]
    spent = {"latency": scale * own.spent["latency"], "size": own.spent["size"] + where.beside, "loss": 0.0}
    room = {name: limit - spent[name] for name, limit in limits.items()}
    try:
        return _chosen(own, entries, room, scale), ""
    except NotMet:
        dense = _dense(entries)
        if all(dense.totals[name] <= amount for name, amount in room.items()):
            return dense, ""
        first = "loss" if fastest else "latency" if "latency" in room else "size"
        best = cheapest(entries, first)
        return best, _missed(entries, own, limits, room, margin)


def _chosen(own: Menus, entries: Sequence[Menu], room: Mapping[str, float], scale: float) -> Plan:
    """Borders are costs of pairs: the plan is made anew with room for those that it had, until it has no more."""
    plan, kept = choose(entries, room), 0.0
    for _ in range(_AGAIN):
        needed = scale * _borders(own, plan)
        if "latency" not in room or needed <= kept:
            break
        kept = needed
        plan = choose(entries, {**room, "latency": room["latency"] - kept})
    return plan


def _borders(own: Menus, plan: Plan) -> float:
    """ms of the borders between what is in 8 bits and what is not."""
    return crossed(own.borders, {name for name, option in plan.picks.items() if option.name == UNCHANGED})


def _dense(entries: Sequence[Menu]) -> Plan:
    """8 bits everywhere, where there is no border."""
    picks = {menu.item: next(one for one in menu.options if one.name == EIGHT) for menu in entries}
    return Plan(picks, sum(one.loss for one in picks.values()), totals(picks))


def _option(considered: Considered, scale: float, fastest: bool) -> Option:
    """`scale`: of milliseconds."""
    costs = {"latency": considered.ms * scale, "size": float(considered.size)}
    if not fastest:
        return Option(considered.option, costs, considered.loss)
    # Of equally fast ones the one of less loss: a nanosecond is worth it.
    aim = costs["latency"] + 1e-6 * considered.loss
    return Option(considered.option, costs | {"loss": considered.loss}, aim)


def _missed(
    entries: Sequence[Menu], own: Menus, limits: Mapping[str, float], room: Mapping[str, float], margin: float
) -> str:
    """Which limit cannot be met, and what would do in its place, the others as they are. Of `limits`, latency and size
    are the share `margin` of what was asked."""
    told = []
    units = {"latency": "ms", "size": "B", "loss": ""}
    for name, limit in limits.items():
        others = {other: amount for other, amount in room.items() if other != name}
        priced = [
            Menu(menu.item, tuple(replace(one, loss=one.costs.get(name, 0.0)) for one in menu.options))
            for menu in entries
        ]
        with contextlib.suppress(NotMet):
            least = choose(priced, others).loss + limit - room[name]
            of = 1.0 if name == "loss" else margin
            if least > limit:
                asked, does = f"{limit / of:.4g}{units[name]}", f"{up(least / of)}{units[name]}"
                told.append(f"{name}<={asked} cannot be met; {name}<={does} would do")
    return f"on {own.device.runtime}, " + ("; or ".join(told) if told else "the limits cannot be met together")


def _totals(where: Ground, own: Menus, plan: Plan) -> dict[str, float]:
    """ms and bytes of the whole network, and loss."""
    picked = [_considered(own.layers[name], option.name) for name, option in plan.picks.items()]
    runtime, between = own.device.runtime, _borders(own, plan)
    return {
        "latency": where.scale(runtime, "latency") * (own.spent["latency"] + sum(one.ms for one in picked) + between),
        "size": where.beside + own.spent["size"] + sum(one.size for one in picked),
        "loss": sum(one.loss for one in picked),
    }


def _considered(options: Iterable[Considered], name: str) -> Considered:
    return next(one for one in options if one.option == name)


def _prices(where: Ground, own: Menus, plan: Plan, fastest: bool) -> dict[str, float]:
    """Loss that one more ms or byte saves."""
    if not fastest:
        return dict(plan.prices)
    ms = plan.prices.get("loss", 0.0)  # that one more of loss saves
    return {"latency": 1 / ms} if ms > 0 else {}


def _layer(where: Ground, own: Menus, name: str, plan: Plan, fastest: bool) -> PlannedLayer:
    """The runner-up at the plan's prices."""
    pick, scale = plan.picks[name].name, where.scale(own.device.runtime, "latency")

    def worth(one: Considered) -> float:
        option = _option(one, scale, fastest)
        return option.loss + sum(price * option.costs[limit] for limit, price in plan.prices.items())

    others = sorted((one for one in own.layers[name] if one.option != pick), key=worth)
    return PlannedLayer(name, own.layers[name], pick, others[0].option if others else "")
