"""Heat and power, read from trees of files like those of real machines."""

from pathlib import Path

import pytest

from shoestring.deploy.signals import Signals, cap, read, share

ZONE, CPU, SUPPLY = "class/thermal/thermal_zone0", "devices/system/cpu", "class/power_supply"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def test_a_laptop_on_battery(tmp_path: Path) -> None:
    files = {
        f"{ZONE}/temp": "71000",
        f"{ZONE}/trip_point_0_type": "critical",
        f"{ZONE}/trip_point_0_temp": "105000",
        f"{ZONE}/trip_point_1_type": "passive",
        f"{ZONE}/trip_point_1_temp": "95000",
        f"{ZONE}/trip_point_2_type": "active",  # a fan is no loss
        f"{ZONE}/trip_point_2_temp": "50000",
        "class/thermal/thermal_zone1/temp": "40000",  # no trip point
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3",
        f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4",
        f"{CPU}/cpufreq/thermal_throttle/core_throttle_count": "100",
        f"{SUPPLY}/BAT0/type": "Battery",
        f"{SUPPLY}/BAT0/status": "Discharging",
        f"{SUPPLY}/BAT0/capacity": "23",
        f"{SUPPLY}/mouse/type": "Battery",
        f"{SUPPLY}/mouse/scope": "Device",
        f"{SUPPLY}/mouse/status": "Discharging",
        f"{SUPPLY}/mouse/capacity": "2",
        f"{SUPPLY}/AC/type": "Mains",
    }
    assert read(tree(tmp_path, files)) == Signals(margin_c=24.0, throttled=7, battery=0.23)
    tree(tmp_path, {f"{SUPPLY}/BAT0/status": "Charging"})
    assert read(tmp_path).battery is None


def test_a_machine_that_tells_nothing_or_nonsense(tmp_path: Path) -> None:
    assert read(tmp_path / "absent") == Signals()
    files = {
        f"{ZONE}/temp": "hot",
        f"{ZONE}/trip_point_0_type": "passive",
        f"{ZONE}/trip_point_0_temp": "-274000",
        f"{SUPPLY}/BAT0/type": "Battery",
        f"{SUPPLY}/BAT0/status": "Discharging",
        f"{SUPPLY}/BAT0/capacity": "",
    }
    assert read(tree(tmp_path, files)) == Signals()
    tree(tmp_path, {f"{ZONE}/temp": "50000"})
    assert read(tmp_path) == Signals()  # a trip point below zero is none


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (Signals(), 1.0),
        (Signals(margin_c=20.0, throttled=9, battery=0.9), 1.0),
        (Signals(margin_c=5.0), 0.5),
        (Signals(margin_c=-1.0), 0.0),
        (Signals(battery=0.25), 0.5),
        (Signals(battery=0.05, margin_c=3.0), 0.0),
    ],
)
def test_how_much_of_the_ladder_is_left(now: Signals, left: float) -> None:
    assert share(now) == left


def test_heat_that_lowered_the_clock_since_the_last_look() -> None:
    assert share(Signals(throttled=9), Signals(throttled=9)) == 1.0
    assert share(Signals(throttled=10), Signals(throttled=9)) == 0.5


def test_a_share_of_the_ladder_is_an_index() -> None:
    assert [cap(5, left) for left in (1.0, 0.5, 0.0)] == [None, 2, 0]
    assert [cap(1, left) for left in (1.0, 0.5, 0.0)] == [None, 0, 0]
    assert cap(4, 0.5) == 1


def test_this_machine_can_be_read() -> None:
    assert 0.0 <= share(read()) <= 1.0
