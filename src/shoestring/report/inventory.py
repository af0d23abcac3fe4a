"""An explanation as columns and counts, before it becomes text or HTML."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shoestring.core.explanation import VERDICTS, Effect, Explanation
from shoestring.report.wording import NONE, number, shape, shorten, size

WHOLE = "whole network"


@dataclass(frozen=True)
class Column:
    """`heading` starts with `>` for numbers. `cells`: a text a layer, then the total. `verdicts`: what a cell says of
    its layer, empty when the column describes the layers themselves."""

    heading: str
    cells: tuple[str, ...]
    verdicts: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return max(map(len, (self.heading.removeprefix(">"), *self.cells)))


def overview(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """(name, value) of the whole network."""
    layers = [item.layer for item in explanation.layers]
    yield "Layers", str(len(layers))
    yield "Million MACs", number(sum(layer.macs for layer in layers) / 1e6)
    yield "Weights in fp32", size(sum(layer.bytes for layer in layers))
    if "original" in explanation.totals:
        yield "Original, measured", f"{number(explanation.totals['original'])} ms"


def described(explanation: Explanation) -> list[Column]:
    """Columns that describe the layers; the last one is their time in the original."""
    layers = [item.layer for item in explanation.layers]
    macs, kilobytes = [layer.macs / 1e6 for layer in layers], [layer.bytes / 1e3 for layer in layers]
    times = [*(item.original_ms for item in explanation.layers), explanation.totals.get("original")]
    return [
        Column("kind", (*(layer.kind for layer in layers), "")),
        Column("shapes", (*(f"{shape(layer.input)} → {shape(layer.output)}" for layer in layers), "")),
        Column(">MMACs", (*map(number, macs), number(sum(macs)))),
        Column(">kB", (*map(number, kilobytes), number(sum(kilobytes)))),
        Column(">ms", tuple(map(number, times))),
    ]


def settings(explanation: Explanation) -> list[Column]:
    """One column a setting: what it does to each layer, in words, and the measured time."""
    columns = []
    for name in explanation.settings:
        found = [{effect.name: effect for effect in item.effects}.get(name) for item in explanation.layers]
        cells = (*map(_told, found), number(explanation.totals.get(name)))
        verdicts = (*(effect.verdict if effect else "" for effect in found), "")
        columns.append(Column(f">{shorten(name, 20)}", cells, verdicts))
    return columns


def groups(columns: Sequence[Column], effects: Sequence[Column], room: int, gap: int) -> Iterator[list[Column]]:
    """Columns in as few tables as `room` characters allow: all in one, or first what describes the layers and then the
    settings beside the time."""

    def fits(group: Sequence[Column]) -> bool:
        return sum(column.width + gap for column in group) <= room

    if fits([*columns, *effects]):
        yield [*columns, *effects]
        return
    yield list(columns)
    time = columns[-1]
    group = [time]
    for column in effects:
        if len(group) > 1 and not fits([*group, column]):
            yield group
            group = [time]
        group.append(column)
    if len(group) > 1:
        yield group


def summary(explanation: Explanation) -> Iterator[list[str]]:
    """Each setting: how many layers get each of VERDICTS, in that order, and the whole network's time with it."""
    for name in explanation.settings:
        found = Counter(effect.verdict for item in explanation.layers for effect in item.effects if effect.name == name)
        counts = [str(found[verdict]) if found[verdict] else NONE for verdict in VERDICTS]
        yield [shorten(name, 18), *counts, number(explanation.totals.get(name))]


def reasons(explanation: Explanation) -> list[str]:
    """What is known of each setting and verdict, said once, with its sources."""
    found: dict[str, dict[str, None]] = {}
    for item in explanation.layers:
        for effect in item.effects:
            said = f"{effect.note} ({effect.source})" if effect.note and effect.source else effect.note or effect.source
            if said:
                found.setdefault(f"{effect.name}, {effect.verdict}", {})[said] = None
    return [f"{name}: {'; '.join(said)}" for name, said in found.items()]


def _told(effect: Effect | None) -> str:
    if effect is None:
        return NONE
    time = "" if effect.ms is None else f" {number(effect.ms)}"
    return f"{shorten(effect.verdict, 12)}{time}"
