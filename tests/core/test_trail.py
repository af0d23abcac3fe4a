"""Trails as JSON and back; what is no trail."""

import json
from dataclasses import replace
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.trail import Trail, TrailPoint

POINTS = (
    TrailPoint(1, 0.1, 0.3, 0.2, 99.0, "point-01.safetensors", 0.5),
    TrailPoint(2, 0.5, 0.8, 0.6, 90.0, "point-02.safetensors"),
)
TRAIL = Trail("ltp:1x1@80%", "probability kept", "pt", True, 100.0, 64, POINTS, {"conv": (0.3, 0.8)})


def test_json_and_back() -> None:
    assert Trail.from_json(json.loads(json.dumps(TRAIL.to_json()))) == TRAIL
    assert TRAIL.to_json()["schema"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "schema 2 is not 1"),
        ({"schema": None}, "schema None is not 1"),
        ({"points": 3}, "trail.points is a int, not a list"),
        ({"layers": {"conv": [0.3]}}, "a layer has not one share for each of 2 points"),
        ({"layers": {"conv": [0.3, "x"]}}, "trail.layers['conv'][1] is a str, not a float"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"metric": None}, "trail.metric is a NoneType"),
    ],
)
def test_what_is_no_trail(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        Trail.from_json({**TRAIL.to_json(), **change})
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_at_all() -> None:
    with pytest.raises(BadInput, match="schema 'list' is not 1"):
        Trail.from_json([])  # type: ignore[arg-type]
    assert replace(TRAIL, layers={}).layers == {}
