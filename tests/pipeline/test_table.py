"""The latency table, on names that runtimes really give to nodes, and on profiles made by hand."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.core.device import Device
from shoestring.deploy import runtimes
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


class Runtime:
    """Profiles made by hand: 1 ms for `a`, 2 for `b`, 1 for what is no layer; halved by the option `int8`."""

    opened = 0

    def open(self, graph: bytes, threads: int, profile: bool = False) -> "Runtime":
        Runtime.opened += 1
        self.share = 0.5 if ModelProto.FromString(graph).producer_name == "int8" else 1.0
        self.inputs = (SimpleNamespace(shape=(1, 3)),)
        return self

    def __call__(self, x: np.ndarray) -> None: ...

    def profile(self, x: np.ndarray, runs: int) -> Mapping[str, float]:
        return {name: ms * self.share for name, ms in {"a/clip": 1.0, "b": 2.0, "reorder": 1.0}.items()}


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, timed) -> dict[str, ModelProto]:
    """Two variants that really take 8 and 3 ms, though their profiles add up to 4 and 2."""
    timed({"fp32": 8.0, "int8": 3.0})
    monkeypatch.setattr(table_module.runtimes, "get", lambda name: Runtime())
    Runtime.opened = 0
    return {option: ModelProto(producer_name=option) for option in (FLOAT, "int8")}


def test_profiles_are_scaled_to_the_unprofiled_total(by_hand) -> None:
    table = latency_table(by_hand, ["a", "b", "fused"], DEVICE)
    assert table.device == DEVICE.fingerprint
    assert table.totals == pytest.approx({"fp32": 8.0, "int8": 3.0}, rel=1e-3)
    assert table.layers["a"] == pytest.approx({"fp32": 2.0, "int8": 0.75}, rel=1e-3)
    assert table.layers["b"] == pytest.approx({"fp32": 4.0, "int8": 1.5}, rel=1e-3)
    assert table.layers["fused"] == {"fp32": 0.0, "int8": 0.0}
    assert table.rest == pytest.approx({"fp32": 2.0, "int8": 0.75}, rel=1e-3)


def test_a_table_is_measured_once_a_device(by_hand, cache: Path) -> None:
    first = latency_table(by_hand, ["a", "b"], DEVICE)
    opened = Runtime.opened
    assert latency_table(by_hand, ["a", "b"], DEVICE) == first
    assert Runtime.opened == opened
    for changed in (replace(DEVICE, version="1.1"), replace(DEVICE, threads=2), replace(DEVICE, processor="another")):
        assert latency_table(by_hand, ["a", "b"], changed).device == changed.fingerprint
    assert Runtime.opened == 4 * opened
    latency_table(by_hand, ["a"], DEVICE)
    latency_table({FLOAT: by_hand[FLOAT], "int8": by_hand[FLOAT]}, ["a", "b"], DEVICE)
    assert Runtime.opened == 6 * opened
    assert len(list((cache / "tables").iterdir())) == 6


@pytest.mark.parametrize("damage", ["[1, 2]", "{}", "null", '{"device": 3}', "cut o"])
def test_a_damaged_table_is_measured_again(by_hand, cache: Path, damage: str) -> None:
    first = latency_table(by_hand, ["a", "b"], DEVICE)
    (file,) = (cache / "tables").iterdir()
    file.write_text(damage)
    assert latency_table(by_hand, ["a", "b"], DEVICE) == first
    assert json.loads(file.read_text())["device"] == DEVICE.fingerprint


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
