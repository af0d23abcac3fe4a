"""The latency table, on names that runtimes really give to nodes, and on profiles made by hand."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.core.device import Device
from shoestring.deploy import runtimes
from shoestring.measure.timing import Schedule, Timings
from shoestring.pipeline import table as table_module
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.table import FLOAT, LatencyTable, attribute, latency_table

DEVICE = Device("a processor", ("avx2",), 2, 1, "onnxruntime", "1.0")
# What the two runtimes call the nodes of small networks, and the layer that each belongs to.
NODES = {
    "stem.1/clip_nchwc": "stem.1",
    "stem.1/WithoutBiases": "stem.1",
    "stem.1": "stem.1",
    "stem.10": "stem.10",
    "blocks.0.layers.0.0_token_4": "blocks.0.layers.0.0",
    "blocks.1": "blocks.1",
    "blocks.11": "blocks.11",
    "blocks.11_quant": "blocks.11",
    "shared": "shared",
    "shared:2": "shared:2",
    "add_1": "add_1",
    "blocks.1.norm": None,  # inside the layer by its name, but a layer of its own that nobody asked for
    "classifier2": None,
    "input_QuantizeLinear": None,
    "reorder_token_3": None,
}
LAYERS = ["stem.1", "stem.10", "blocks.0.layers.0.0", "blocks.1", "blocks.11", "shared", "shared:2", "add", "add_1"]
LAYERS.append("classifier")


@pytest.mark.parametrize(("node", "layer"), NODES.items())
def test_a_node_belongs_to_one_layer(node: str, layer: str | None) -> None:
    times, rest = attribute({node: 2.0}, LAYERS, ModelProto())
    assert {name: ms for name, ms in times.items() if ms} == ({layer: 2.0} if layer else {})
    assert rest == (0.0 if layer else 2.0)


def test_nothing_of_a_profile_is_lost_or_counted_twice() -> None:
    profile = {node: float(index + 1) for index, node in enumerate(NODES)}
    times, rest = attribute(profile, LAYERS, ModelProto())
    assert set(times) == set(LAYERS)
    assert sum(times.values()) + rest == pytest.approx(sum(profile.values()))
    assert times["stem.1"] == 1 + 2 + 3


@pytest.mark.parametrize(
    ("option", "runtime"),
    [
        *(("fp32", name) for name in runtimes.installed(runtimes.STOCK)),
        *(("int8", name) for name in runtimes.installed()),
    ],
)
def test_real_profiles_speak_of_layers(
    option: str, runtime: str, original: Original, variants: dict[str, ModelProto]
) -> None:
    """Each layer with weights is found in the profile of every runtime: nothing that computes is called otherwise."""
    session = runtimes.get(runtime).open(variants[option].SerializeToString(), profile=True)
    profile = session.profile(np.zeros((1, 3, 32, 32), np.float32), runs=3)
    weighted = [layer.name for layer in original.layers if layer.weight]
    found = {node: attribute({node: 1.0}, weighted, variants[option])[0] for node in profile}
    owners = {name for times in found.values() for name, ms in times.items() if ms}
    assert owners == set(weighted), f"{sorted(set(weighted) - owners)} not in {sorted(profile)}"


SHARES = {"int8": 0.5, "magnitude": 0.25, "structured": 0.75}


class Runtime:
    """Profiles made by hand: 1 ms for `a`, 2 for `b`, 1 for what is no layer; less by SHARES in other options."""

    opened: ClassVar[list[str]] = []  # by what, to be timed
    profiled: ClassVar[list[str]] = []
    breaks: ClassVar[int | None] = None  # with the profile of this number

    def __init__(self, name: str, version: str = "1.0") -> None:
        self.name, self.version = name, lambda: version

    def open(self, graph: bytes, threads: int, profile: bool = False) -> "Runtime":
        found = Runtime(self.name)
        found.option = ModelProto.FromString(graph).producer_name
        found.inputs = (SimpleNamespace(shape=(1, 3)),)
        if not profile:
            Runtime.opened.append(f"{found.option}@{self.name}")
        return found

    def __call__(self, x: np.ndarray) -> None: ...

    def profile(self, x: np.ndarray, runs: int) -> Mapping[str, float]:
        if len(Runtime.profiled) == Runtime.breaks:
            raise KeyboardInterrupt
        Runtime.profiled.append(self.option)
        share = SHARES.get(self.option, 1.0)
        return {name: ms * share for name, ms in {"a/clip": 1.0, "b": 2.0, "reorder": 1.0}.items()}


def made(*options: str) -> dict[str, ModelProto]:
    return {option: ModelProto(producer_name=option) for option in options}


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, timed) -> dict[str, ModelProto]:
    """Two variants that really take 8 and 3 ms, though their profiles add up to 4 and 2."""
    timed({"fp32": 8.0, "int8": 3.0, "magnitude": 2.0, "structured": 4.0})
    monkeypatch.setattr(table_module.runtimes, "get", Runtime)
    for name, value in (("opened", []), ("profiled", []), ("breaks", None)):
        monkeypatch.setattr(Runtime, name, value)
    return made(FLOAT, "int8")


def test_profiles_are_scaled_to_the_unprofiled_total(by_hand) -> None:
    table = latency_table(by_hand, ["a", "b", "fused"], DEVICE)
    assert table.device == DEVICE.fingerprint
    assert table.totals == pytest.approx({"fp32": 8.0, "int8": 3.0}, rel=1e-3)
    assert table.layers["a"] == pytest.approx({"fp32": 2.0, "int8": 0.75}, rel=1e-3)
    assert table.layers["b"] == pytest.approx({"fp32": 4.0, "int8": 1.5}, rel=1e-3)
    assert table.layers["fused"] == {"fp32": 0.0, "int8": 0.0}
    assert table.rest == pytest.approx({"fp32": 2.0, "int8": 0.75}, rel=1e-3)


def test_a_table_is_measured_once_a_device(by_hand, cache: Path) -> None:
    """What was measured with another fingerprint is not used, nor with other layers or graphs."""
    first = latency_table(by_hand, ["a", "b"], DEVICE)
    assert Runtime.profiled == ["fp32", "int8"]
    assert latency_table(by_hand, ["a", "b"], DEVICE) == first
    assert len(Runtime.profiled) == 2
    for changed in (replace(DEVICE, version="1.1"), replace(DEVICE, threads=2), replace(DEVICE, processor="another")):
        assert latency_table(by_hand, ["a", "b"], changed).device == changed.fingerprint
    assert Runtime.profiled == 4 * ["fp32", "int8"]
    latency_table(by_hand, ["a"], DEVICE)
    latency_table({FLOAT: ModelProto(producer_name="another"), "int8": by_hand["int8"]}, ["a", "b"], DEVICE)
    assert Runtime.profiled == [*5 * ["fp32", "int8"], "another", "int8"]
    assert len(list((cache / "tables").iterdir())) == 6 * 2


def test_floats_of_another_version_are_measured_again(by_hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run on the base runtime, of which the fingerprint of a device with the engine says nothing."""
    engine = replace(DEVICE, runtime="engine")
    latency_table(by_hand, ["a"], engine)
    assert Runtime.opened == ["int8@engine", "fp32@onnxruntime"]
    monkeypatch.setattr(
        table_module.runtimes, "get", lambda name: Runtime(name, "1.1" if name == "onnxruntime" else "1.0")
    )
    latency_table(by_hand, ["a"], engine)
    assert Runtime.profiled == ["int8", "fp32", "fp32"]


@pytest.mark.parametrize(
    "damage", ["[1, 2]", "{}", "null", '{"anchor": 3}', "cut o", '{"anchor": 1, "total": 1, "layers": {}, "rest": 0}']
)
def test_a_damaged_entry_is_measured_again_and_no_other(by_hand, cache: Path, damage: str) -> None:
    first = latency_table(by_hand, ["a", "b"], DEVICE)
    for file in (cache / "tables").iterdir():
        before = file.read_text()
        Runtime.profiled.clear()
        file.write_text(damage)
        assert latency_table(by_hand, ["a", "b"], DEVICE).totals == pytest.approx(first.totals)
        assert len(Runtime.profiled) == 1
        assert json.loads(file.read_text()).keys() == json.loads(before).keys()


def test_more_options_cost_their_own_time_only(by_hand, timed) -> None:
    """Each is timed with the first, and stands in the table as so many times what the first took then."""
    first = latency_table(by_hand, ["a", "b"], DEVICE)
    timed({"fp32": 16.0, "magnitude": 4.0, "structured": 8.0})  # the machine takes twice as long today
    Runtime.opened.clear()
    Runtime.profiled.clear()
    more = latency_table(made(FLOAT, "magnitude", "int8", "structured"), ["a", "b"], DEVICE)
    assert Runtime.profiled == ["magnitude", "structured"]
    assert [opened.partition("@")[0] for opened in Runtime.opened] == ["fp32", "magnitude", "structured"]
    assert list(more.totals) == ["fp32", "magnitude", "int8", "structured"]
    assert more.totals == pytest.approx({**first.totals, "magnitude": 2.0, "structured": 4.0}, rel=1e-3)
    assert more.layers["b"] == pytest.approx({**first.layers["b"], "magnitude": 1.0, "structured": 2.0}, rel=1e-3)
    assert more.rest["structured"] == pytest.approx(1.0, rel=1e-3)
    assert latency_table(by_hand, ["a", "b"], DEVICE) == first  # and fewer are there, too
    for option, total in more.totals.items():
        assert sum(times[option] for times in more.layers.values()) + more.rest[option] == pytest.approx(total)


def test_a_kill_loses_only_what_was_not_measured(by_hand, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = made(FLOAT, "int8", "magnitude", "structured")
    monkeypatch.setattr(Runtime, "breaks", 2)
    with pytest.raises(KeyboardInterrupt):
        latency_table(variants, ["a", "b"], DEVICE)
    monkeypatch.setattr(Runtime, "breaks", None)
    table = latency_table(variants, ["a", "b"], DEVICE)
    assert Runtime.profiled == ["fp32", "int8", "magnitude", "structured"]
    assert table.totals == pytest.approx({"fp32": 8.0, "int8": 3.0, "magnitude": 2.0, "structured": 4.0}, rel=1e-3)


def test_few_sessions_are_open_at_once_and_the_first_in_all_turns(by_hand, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, told = [], []
    interleave = table_module.interleave

    def watched(subjects: Mapping[str, Any], schedule: Schedule, progress: Callable[[float], object]) -> Timings:
        turns.append((list(subjects), schedule.seconds))
        progress(0.5)
        return interleave(subjects, schedule)

    monkeypatch.setattr(table_module, "interleave", watched)
    names = [f"option {number}" for number in range(9)]
    latency_table(made(*names), ["a"], DEVICE, seconds=6.0, progress=told.append)
    assert turns == [
        (names[:4], 2.0),
        ([names[0], *names[4:8]], 2.0),
        ([names[0], names[8]], 2.0),
    ]
    assert told == pytest.approx([0.0, 0.5 / 3, 1.5 / 3, 2.5 / 3])
    assert sum(opened.startswith("option 0@") for opened in Runtime.opened) == 1


HOLDER = """
import sys
from shoestring.core import cache
with cache.lock(cache.MEASURING):
    print("inside", flush=True)
    for line in sys.stdin:
        name, total = line.split()
        cache.store("tables", name, {"anchor": 10.0, "total": float(total), "layers": {"a": 0.1}, "rest": 0.0})
"""


def test_two_processes_do_not_measure_at_once(by_hand) -> None:
    """Another one measures: we wait, and then have what it stored, the fingerprint and the graphs being the same."""
    keys = table_module._keys(by_hand, FLOAT, ["a"], DEVICE)
    found: list[LatencyTable] = []
    thread = threading.Thread(target=lambda: found.append(latency_table(by_hand, ["a"], DEVICE)), daemon=True)
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "inside\n"
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert Runtime.opened == []
        other.communicate(f"{keys[FLOAT]} 1.0\n{keys['int8']} 0.5\n")
    thread.join(20)
    layers, rest = {"a": {"fp32": 1.0, "int8": 1.0}}, {"fp32": 0.0, "int8": 0.0}
    assert found == [LatencyTable(DEVICE.fingerprint, {"fp32": 10.0, "int8": 5.0}, layers, rest)]
    assert Runtime.opened == []


def test_a_place_that_cannot_be_written_is_measured_without(by_hand, cache: Path) -> None:
    cache.write_text("not a folder")
    table = latency_table(by_hand, ["a"], DEVICE)
    assert table.totals == pytest.approx({"fp32": 8.0, "int8": 3.0}, rel=1e-3)


def test_predict() -> None:
    layers = {"a": {"fp32": 2.0, "int8": 1.0}, "b": {"fp32": 4.0, "int8": 5.0}}
    table = LatencyTable("here", {"fp32": 6.5, "int8": 7.0}, layers, {"fp32": 0.5, "int8": 1.0})
    assert table.predict({}) == pytest.approx(6.5)
    assert table.predict({"a": "int8", "b": "int8"}) == pytest.approx(7.0)
    assert table.predict({"a": "int8"}) == pytest.approx(1 + 4 + 1)  # the dearer rest: both kinds are there


def test_a_real_table_adds_up(original: Original, variants: dict[str, ModelProto], brief) -> None:
    names = [layer.name for layer in original.layers]
    table = latency_table(variants, names, here("onnxruntime"))
    assert list(table.layers) == names
    for option in variants:
        layers = sum(times[option] for times in table.layers.values())
        assert layers + table.rest[option] == pytest.approx(table.totals[option])
        assert layers > 0.3 * table.totals[option]  # the layers are found: the rest is quantising, pooling, adding
    picks = dict.fromkeys(names, "int8")
    assert table.predict(picks) == pytest.approx(table.totals["int8"])
