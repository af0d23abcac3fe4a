"""Every compression method through the same tests (`settings.py`): the card, its settings, counts, and the way into a
file that computes what the method says."""

import re
import runpy
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import fx, nn

from shoestring.compress import METHODS, int8
from shoestring.compress.method import Applied, Card, Setting
from shoestring.core.counts import dense
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, OTHER, Layer
from shoestring.deploy import parity, runtimes
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.deploy.normal_form import violations
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.pipeline.post_training import calibrate, outputs

table = runpy.run_path(str(Path(__file__).with_name("settings.py")))
ROWS, LAYERS = table["ROWS"], table["LAYERS"]
SETTINGS = [(name, text) for name, row in ROWS.items() for text in row.settings]
DEVICE = Device("a processor", ("avx2",), 2, 1, "onnxruntime", "1.0")
KINDS = {CONV, DEPTHWISE, LINEAR, OTHER}


@pytest.fixture(scope="module")
def captured(tiny: str) -> fx.GraphModule:
    return capture(runpy.run_path(tiny.removesuffix(":tiny"))["tiny"](), (3, 32, 32))


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((1, 3, 32, 32), np.float32) for seed in range(6)]


@pytest.fixture(scope="module")
def layers(captured: fx.GraphModule) -> tuple[Layer, ...]:
    return inventory(captured, (3, 32, 32))


def assigned(method: ModuleType, text: str, layers: Sequence[Layer]) -> dict[str, Setting]:
    """The settings that layers get when a user writes `text`."""
    own = [layer for layer in layers if layer.kind in method.CARD.kinds]
    found: dict[str, Setting] = method.assign(own, method.parse(text))
    return found


def test_every_method_has_a_row() -> None:
    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize("name", ROWS)
def test_the_card_is_complete(name: str) -> None:
    card = METHODS[name].CARD
    assert isinstance(card, Card)
    assert card.name == name
    assert card.title
    assert "arXiv" in card.paper or "doi" in card.paper.lower()
    assert card.kinds
    assert set(card.kinds) <= KINDS
    assert set(card.after) | set(card.conflicts) <= set(METHODS) - {name}
    assert not set(card.after) & set(card.conflicts)
    assert METHODS[name].__doc__


@pytest.mark.parametrize(("name", "text"), SETTINGS)
def test_a_setting_is_written_as_it_is_read(name: str, text: str) -> None:
    method = METHODS[name]
    setting = method.parse(text)
    assert setting.method == name
    assert str(setting) == (f"{name}:{text}" if text else name)
    assert method.parse(str(setting).partition(":")[2]) == setting
    assert len({setting, method.parse(text)}) == 1  # hashable, and equal to itself


@pytest.mark.parametrize("name", ROWS)
def test_the_default_setting(name: str, layers) -> None:
    """It is the first of the row, and every layer gets a setting of the method."""
    method, own = METHODS[name], [layer for layer in layers if layer.kind in METHODS[name].CARD.kinds]
    assert method.parse("") == method.parse(ROWS[name].settings[0])
    assigned = method.assign(own, method.parse(""))
    assert list(assigned) == [layer.name for layer in own]
    assert {setting.method for setting in assigned.values()} == {name}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, row in ROWS.items() for text in row.wrong])
def test_what_is_no_setting_is_refused_in_one_line(name: str, text: str) -> None:
    with pytest.raises(BadInput) as refused:
        METHODS[name].parse(text)
    assert repr(text) in str(refused.value)
    assert "write " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ROWS)
def test_options_are_for_its_kinds_only(name: str) -> None:
    method = METHODS[name]
    other = Layer("add", OTHER, "Add", (3, 4, 4), (3, 4, 4))
    for kind, layer in {**LAYERS, OTHER: other}.items():
        options = method.options(layer, DEVICE)
        assert bool(options) == (kind in method.CARD.kinds)
        assert all(method.parse(str(option).partition(":")[2]) == option for option in options)
        assert len(set(options)) == len(options)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, row in ROWS.items() for text in row.bits])
def test_counts_by_hand(name: str, text: str) -> None:
    method, row = METHODS[name], ROWS[name]
    for kind, bits in row.bits[text].items():
        layer = LAYERS[kind]
        counted = method.counts(layer, method.parse(text))
        assert counted.bits == bits
        macs = layer.macs * row.left.get(text, 1)
        assert counted.macs == macs
        assert counted.multiplies == {row.multiplies[text]: macs}
        assert counted.nonzeros <= layer.weights
        assert counted.bytes < dense(layer).bytes  # else it would not be a compression


@pytest.mark.parametrize(("name", "text"), SETTINGS)
def test_apply_on_a_model_with_targets(name: str, text: str, captured: fx.GraphModule, layers, inputs) -> None:
    """What is applied says so layer by layer; the model still runs, and bakes to a plain module."""
    method = METHODS[name]
    settings = assigned(method, text, layers)
    applied = method.apply(captured, settings)
    applied.settle(inputs)
    assert set(applied.precisions) == set(settings)
    for layer in settings:
        assert method.lower(captured.get_submodule(layer), settings[layer])[1] == applied.precisions[layer]
    applied.on_step(0.5)
    assert float(torch.as_tensor(applied.penalty()).detach()) >= 0
    applied.freeze()
    baked = applied.bake()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert baked(x).shape == (2, 10)
        torch.testing.assert_close(baked(x), applied.model(x))
    assert not any(nn.utils.parametrize.is_parametrized(module) for module in baked.modules())


@pytest.mark.parametrize("name", ROWS)
def test_apply_on_a_model_without_targets(name: str) -> None:
    model = capture(nn.Sequential(nn.ReLU(), nn.Flatten()), (3, 4))
    with pytest.warns(NoEffectWarning, match=re.escape(name)):
        applied = METHODS[name].apply(model, {})
    assert applied.precisions == {}
    setting = METHODS[name].parse("")
    for wrong in ("0", "nowhere", ""):
        with pytest.raises(BadInput, match=f"^{re.escape(name)}: {wrong!r} is not"):
            METHODS[name].apply(model, {wrong: setting})


@pytest.mark.parametrize("runtime", runtimes.installed())
@pytest.mark.parametrize(("name", "text"), [(name, row.settings[0]) for name, row in ROWS.items()])
def test_from_apply_to_a_file(name: str, text: str, runtime: str, captured: fx.GraphModule, layers, inputs) -> None:
    """The baked model exported at the applied precisions (what takes away: in 8 bits): in the normal form, equal to its
    fake-quantised self on every runtime, and close to the original."""
    method = METHODS[name]
    settings = assigned(method, text, layers)
    applied = method.apply(captured, settings)
    applied.settle(inputs)
    applied.freeze()
    baked = applied.bake()
    plain = export(baked, (3, 32, 32))
    shapes = method.CARD.prunes or method.CARD.reshapes
    now = inventory(baked, (3, 32, 32)) if method.CARD.decomposes else layers  # type: ignore[arg-type]  # captured
    grids, precisions = applied.grids, int8.precisions(now) if shapes else applied.precisions
    graph = realise(plain, grids) if grids else calibrate(plain, inputs, precisions).build()
    assert violations(graph) == []
    parity.gate(parity.compare(graph, runtime, inputs[:2]))
    original = outputs(export(captured, (3, 32, 32)), "onnxruntime", inputs)
    found = outputs(graph, runtime, inputs)
    assert np.abs(found - original).max() < ROWS[name].error * np.ptp(original)
    assert not np.array_equal(found, original)


def test_what_a_method_need_not_say() -> None:
    """The defaults of Applied: nothing is added to the loss, nothing happens on the way."""
    model = nn.Linear(2, 3)
    applied = Applied(model)
    applied.on_step(1.0)
    applied.freeze()
    assert applied.penalty() == 0.0
    assert (applied.status(), applied.told(), applied.log()) == ("", (), {})
    assert applied.bake() is model
    assert applied.precisions == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Card("x", "y", "z", (CONV,)).legal == ""
