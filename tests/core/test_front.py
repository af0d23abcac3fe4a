"""Front: what is written as JSON."""

import json

from shoestring.core.front import Front, FrontPoint
from shoestring.core.receipt import Baseline

POINT = FrontPoint("a.shoe", "latency<=1ms", "engine", 0.9, 1000, 3.3, "holds", 74.0, -0.5, -0.9, -0.1)


def test_json_holds_every_field() -> None:
    front = Front("net", "latency=1ms..2ms", {"threads": 2}, (POINT,), (Baseline("fp32", "openvino", 3.0, 4000),))
    data = json.loads(json.dumps(front.to_json()))
    assert data.pop("points") == [
        {
            "file": "a.shoe",
            "asked": "latency<=1ms",
            "runtime": "engine",
            "latency_ms": 0.9,
            "size_bytes": 1000,
            "speedup": 3.3,
            "verdict": "holds",
            "quality": 74.0,
            "difference": -0.5,
            "low": -0.9,
            "high": -0.1,
            "dominated": False,
        }
    ]
    (baseline,) = data.pop("baselines")
    assert (baseline["name"], baseline["latency_ms"], baseline["best"]) == ("fp32", 3.0, True)
    assert data == {
        "schema": 1,
        "model": "net",
        "budget": "latency=1ms..2ms",
        "device": {"threads": 2},
        "metric": "",
        "unit": "",
        "notes": [],
    }
