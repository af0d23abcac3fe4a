"""Trails as JSON and back; what is no trail."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.trail import Trail, TrailPoint

POINTS = (
    TrailPoint(1, 0.1, 0.3, 0.2, 99.0, "point-01.safetensors", 0.5),
    TrailPoint(2, 0.5, 0.8, 0.6, 90.0, "point-02.safetensors", band=0.05),
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
        ({"points": [], "layers": {}}, "it has no points"),
        ({"layers": {"conv": [0.3, 1.5]}}, "zeros of 'conv' are not in 0..1"),
        ({"layers": {"conv": [0.3, float("nan")]}}, "zeros of 'conv' are not in 0..1"),
        ({"points": [asdict(replace(POINTS[0], zeros=7.0))], "layers": {}}, "zeros of point 1 is 7, which is not in"),
        ({"points": [asdict(replace(POINTS[0], progress=-0.1))], "layers": {}}, "progress of point 1 is -0.1, which"),
        ({"points": [asdict(replace(POINTS[0], band=1.1))], "layers": {}}, "band of point 1 is 1.1, which is not in"),
        *(
            ({"points": [asdict(replace(POINTS[0], file=file))], "layers": {}}, "is no name of a file beside it")
            for file in ("", "..", "../x", "/etc/x", "a\\b", "a\nb")
        ),
    ],
)
def test_what_is_no_trail(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        Trail.from_json({**TRAIL.to_json(), **change})
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_trail_without_what_nobody_knew() -> None:
    """Of methods without thresholds, on a device that was not timed."""
    plain = {name: value for name, value in asdict(POINTS[0]).items() if name not in ("ms", "band")}
    found = Trail.from_json({**TRAIL.to_json(), "points": [plain], "layers": {}}).points[0]
    assert (found.ms, found.band) == (None, None)


def test_lost_is_positive_where_a_point_is_worse() -> None:
    assert [TRAIL.lost(point) for point in POINTS] == [1.0, 10.0]
    assert replace(TRAIL, higher_is_better=False, original=50.0).lost(POINTS[1]) == 40.0


def test_nothing_at_all() -> None:
    with pytest.raises(BadInput, match="schema 'list' is not 1"):
        Trail.from_json([])  # type: ignore[arg-type]
    assert replace(TRAIL, layers={}).layers == {}
