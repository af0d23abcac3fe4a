"""Explanation: spelling of settings and what is written as JSON."""

import json

from shoestring.core.explanation import Effect, ExplainedLayer, Explanation
from shoestring.core.layer import LINEAR, Layer

LAYER = Layer("head", LINEAR, "Linear", (8,), (4,), (4, 8), bias=True, macs=32)
LOW, SPARSE = Effect("lsq+", "w4a4", "runs", 0.5, "fine", "here"), Effect("int8", "", "unknown")


def test_settings_are_spelt_as_on_the_command_line() -> None:
    assert (LOW.name, SPARSE.name) == ("lsq+:w4a4", "int8")


def test_settings_come_once_in_the_order_they_appear() -> None:
    layers = (ExplainedLayer(LAYER, 1.0, (LOW,)), ExplainedLayer(LAYER, 1.0, (SPARSE, LOW)))
    assert Explanation("m", {}, layers).settings == ("lsq+:w4a4", "int8")


def test_json_holds_every_field() -> None:
    explanation = Explanation("m", {"threads": 2}, (ExplainedLayer(LAYER, 1.5, (LOW,)),), {"original": 3.0}, ("note",))
    data = json.loads(json.dumps(explanation.to_json()))
    assert data["schema"] == 1
    assert (data["model"], data["device"], data["totals"]) == ("m", {"threads": 2}, {"original": 3.0})
    assert data["notes"] == ["note"]
    layer = data["layers"][0]
    assert (layer["layer"]["name"], layer["layer"]["weight"], layer["original_ms"]) == ("head", [4, 8], 1.5)
    effect = {"method": "lsq+", "setting": "w4a4", "verdict": "runs", "ms": 0.5, "note": "fine", "source": "here"}
    assert layer["effects"] == [effect]
