"""Profile: rates, shares and bounds of operators whose figures are round."""

import json

import pytest

from shoestring.core.profile import COMPUTE, MEMORY, OVERHEAD, Operator, Profile, Roof, together

ROOF = Roof(50.0, 10.0, "by hand")
# 50 M multiply-adds take 1 ms at the peak, 10 MB take 1 ms to copy.
BUSY = Operator("a", "conv 1x1", 2.0, 50_000_000, 100_000_000, 1_000_000)
MOVING = Operator("b", "depthwise 3x3", 1.0, 1_000_000, 1_000_000, 5_000_000)
WAITING = Operator("c", "conv 1x1", 1.0, 1_000_000, 1_000_000, 100_000)
PROFILE = Profile("x.onnx", {"threads": 1}, 4.16, ROOF, (BUSY, MOVING, WAITING), ("note",))


def test_rates_of_an_operator() -> None:
    assert (BUSY.gmacs, BUSY.gigabytes, BUSY.intensity) == pytest.approx((25.0, 0.5, 50.0))
    idle = Operator("d", "Flatten", 0.0)
    assert (idle.gmacs, idle.gigabytes, idle.intensity) == (0.0, 0.0, 0.0)


def test_shares() -> None:
    assert PROFILE.profiled_ms == pytest.approx(4.0)
    assert [PROFILE.share(item) for item in PROFILE.operators] == pytest.approx([0.5, 0.25, 0.25])
    assert PROFILE.peak_share == pytest.approx(52e6 / 4.16e-3 / 50e9)
    assert Profile("x", {}, 0.0, ROOF, ()).peak_share == 0.0


def test_what_bounds_an_operator() -> None:
    assert [PROFILE.bound(item) for item in PROFILE.operators] == [COMPUTE, MEMORY, OVERHEAD]
    quarter = Operator("e", "Add", 1.0, bytes=2_500_000)
    assert PROFILE.bound(quarter) == MEMORY  # just enough to explain it
    assert PROFILE.bound(Operator("e", "Add", 1.01, bytes=2_500_000)) == OVERHEAD
    assert PROFILE.bound(Operator("e", "Add", 0.1, 1_000_000, bytes=10_000_000)) == MEMORY  # the longer of the two


def test_operators_of_a_label_are_added_up() -> None:
    (first, two), (second, one) = PROFILE.by_label()
    assert (two, one) == (2, 1)
    assert first == together("conv 1x1", [BUSY, WAITING])
    assert first == Operator("", "conv 1x1", 3.0, 51_000_000, 101_000_000, 1_100_000)
    assert second == together("depthwise 3x3", [MOVING])


def test_json_holds_what_was_measured_and_what_follows() -> None:
    data = json.loads(json.dumps(PROFILE.to_json()))
    assert (data["schema"], data["file"], data["ms"], data["device"]) == (1, "x.onnx", 4.16, {"threads": 1})
    assert data["roof"] == {"gmacs": 50.0, "gigabytes": 10.0, "how": "by hand"}
    assert (data["profiled_ms"], data["peak_share"], data["notes"]) == (4.0, PROFILE.peak_share, ["note"])
    first = data["operators"][0]
    measured = {"node": "a", "label": "conv 1x1", "ms": 2.0, "executed": 50_000_000, "dense": 100_000_000}
    follows = {"share": 0.5, "gmacs": 25.0, "peak_share": 0.5, "gigabytes": 0.5, "bound": "compute"}
    assert first == {**measured, "bytes": 1_000_000, **follows}
