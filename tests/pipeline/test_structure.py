"""Which layers are decomposed: those that are measured to be faster, and those that are asked for by name."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shoestring.compress import structured_conv
from shoestring.compress.structured_conv.settings import DENSE
from shoestring.core.device import Device
from shoestring.deploy import parity, runtimes
from shoestring.deploy.normal_form import violations
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original, remade, resolve
from shoestring.pipeline.structure import DECOMPOSED, DENSE8, paying, possible, takes, timed, variant, variants
from shoestring.pipeline.table import WORTH, LatencyTable

DEPTHWISE = ("blocks.0.depthwise.0", "blocks.1.depthwise.0")


@pytest.fixture
def assigned(original: Original) -> Callable[[str], dict[str, structured_conv.Structured]]:
    layers = original.of_kinds(structured_conv.CARD.kinds)
    return lambda text: structured_conv.assign(layers, structured_conv.parse(text))


def changed(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(own.kept) for name, own in settings.items() if own.kept != DENSE}  # type: ignore[attr-defined]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, tuple[float, float]]], None]:
    """Times by hand: layer to (dense, decomposed)."""

    def put(times: Mapping[str, tuple[float, float]]) -> None:
        layers = {name: {DENSE8: dense, DECOMPOSED: small} for name, (dense, small) in times.items()}
        monkeypatch.setattr("shoestring.pipeline.structure.timed", lambda *_: SimpleNamespace(layers=layers))

    return put


def test_only_what_is_faster(original: Original, device: Device, assigned, measured) -> None:
    measured({DEPTHWISE[0]: (1.0, 0.6), DEPTHWISE[1]: (1.0, 0.98)})
    found = paying(original, assigned("n=2"), device)
    assert changed(found) == {DEPTHWISE[0]: "n2"}
    assert list(found) == [layer.name for layer in original.of_kinds(structured_conv.CARD.kinds)]


def test_names_and_all_are_not_measured(original: Original, device: Device, assigned, measured) -> None:
    measured({DEPTHWISE[1]: (1.0, 2.0)})
    named = paying(original, assigned("n=2:stem.0=n2:blocks.0.d*=n2"), device)
    assert changed(named) == {"stem.0": "n2", DEPTHWISE[0]: "n2"}
    assert changed(paying(original, assigned("n=2:all"), device)) == dict.fromkeys(DEPTHWISE, "n2")


def test_a_layer_that_is_called_twice_is_one(original: Original, device: Device, assigned, measured) -> None:
    twice = {**assigned("n=2"), f"{DEPTHWISE[0]}:2": assigned("n=2")[DEPTHWISE[0]]}
    measured({DEPTHWISE[0]: (1.0, 0.5), f"{DEPTHWISE[0]}:2": (1.0, 1.6), DEPTHWISE[1]: (1.0, 0.5)})
    assert changed(paying(original, twice, device)) == {DEPTHWISE[1]: "n2"}


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_really_timed_on_each_runtime(original: Original, runtime: str, assigned) -> None:
    """Sums belong to the layer that they stand before: nothing of them is in the rest."""
    settings = assigned("n=2:c=0.5:stem.0=n2:classifier=c0.5")
    table = timed(original, settings, here(runtime))
    assert set(table.layers) == {layer.name for layer in original.layers}
    total = table.totals[DECOMPOSED]
    told = sum(times[DECOMPOSED] for times in table.layers.values()) + table.rest[DECOMPOSED]
    assert told == pytest.approx(total, rel=1e-6)
    assert all(table.layers[name][DECOMPOSED] > 0 for name in settings)


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_every_form_computes_what_the_network_does(original: Original, runtime: str, assigned) -> None:
    """8 bits of structured layers of every kind, on every runtime, beside the decomposed network in floats."""
    settings = assigned("n=2:c=0.5:all:stem.0=c0.7n2:classifier=c0.5")
    assert original.model is not None
    baked = structured_conv.apply(original.model, settings).bake()
    inputs = original.noise()
    graph = variant(original, settings, inputs)
    assert violations(graph) == []
    (found,) = runtimes.get(runtime).open(graph.SerializeToString(), threads=1)(inputs[0])
    with torch.no_grad():
        expected = baked(torch.from_numpy(inputs[0])).numpy()
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_a_file_passes_the_parity_gate(onnx_files, runtime: str) -> None:
    theirs = resolve(str(onnx_files["old"]))
    settings = structured_conv.assign(theirs.layers, structured_conv.parse("n=2:c=0.5:all"))
    graph = variant(theirs, settings, theirs.noise())
    assert violations(graph) == []
    compared = parity.compare(graph, runtime, theirs.noise())
    parity.gate(compared)
    assert sum(edge.layer.endswith(("_pool", "_total", "_windows")) for edge in compared.edges) >= 4


def test_sums_have_names_and_weights_of_their_own(original: Original, assigned) -> None:
    """The exporter stores equal constants once; each layer of a file has its own."""
    assert original.model is not None
    settings = assigned("n=2:c=0.5:all")
    made = remade(original, structured_conv.apply(original.model, settings).bake())  # type: ignore[arg-type]  # captured
    nodes = {node.name: node for node in made.graph.graph.node}
    pools = [nodes[f"{name}_pool"] for name in DEPTHWISE]
    assert pools[0].input[1] != pools[1].input[1]
    for index in (0, 1):
        project = f"blocks.{index}.project.0"
        names = {f"{project}_{part}" for part in ("first", "low", "high", "difference", "total", "windows")}
        assert names <= set(nodes)
    layers = {layer.name for layer in made.of_kinds(structured_conv.CARD.kinds)}
    assert {f"{name}_pool" for name in DEPTHWISE} <= layers
    assert sum(layer.fixed for layer in made.layers) == 4


def test_examples_for_explain(original: Original, onnx_files) -> None:
    assert takes(original) == {
        "n=2": frozenset(DEPTHWISE),
        "c=0.5": frozenset({"blocks.0.project.0", "blocks.1.project.0"}),
    }
    theirs = resolve(str(onnx_files["float"]))
    for network in (original, theirs):
        found = variants(network, network.noise())
        assert list(found) == ["structured:n=2", "structured:c=0.5"]
        assert all(violations(graph) == [] for graph in found.values())
    assert [len(taken) for taken in takes(theirs).values()] == [2, 2]


def test_what_a_file_cannot_have_is_said(original: Original, onnx_files, monkeypatch) -> None:
    theirs = resolve(str(onnx_files["float"]))
    settings = structured_conv.assign(theirs.layers, structured_conv.parse("n=2:all"))
    first, second = (name for name, own in settings.items() if own.kept != DENSE)
    assert possible(theirs, settings) == (settings, ())
    monkeypatch.setattr("shoestring.pipeline.structure.hindrances", lambda _: {second: "they are blue", "other": "so"})
    found, told = possible(theirs, settings)
    assert changed(found) == {first: "n2"}
    assert told == (f"Not decomposed, for they are blue: {second}.",)
    assert takes(theirs)["n=2"] == {first}
    assert possible(original, settings) == (settings, ())


@pytest.mark.parametrize("name", ["float", "old"])
def test_files_are_timed_too(onnx_files, device: Device, monkeypatch, name: str) -> None:
    """What is decomposed is judged by its times, really measured."""
    theirs = resolve(str(onnx_files[name]))
    settings = structured_conv.assign(theirs.layers, structured_conv.parse("n=2"))
    asked = {name for name, own in settings.items() if own.kept != DENSE}
    seen = {}

    def watched(*given: object) -> LatencyTable:
        seen["table"] = timed(*given)  # type: ignore[arg-type]
        return seen["table"]

    monkeypatch.setattr("shoestring.pipeline.structure.timed", watched)
    found = paying(theirs, settings, device)
    times = {name: seen["table"].layers[name] for name in asked}
    assert all(ms[form] > 0 for ms in times.values() for form in (DENSE8, DECOMPOSED))
    assert set(changed(found)) == {name for name, ms in times.items() if ms[DECOMPOSED] <= WORTH * ms[DENSE8]}
