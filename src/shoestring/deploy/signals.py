"""Heat and power, where the operating system tells (Linux, below /sys); elsewhere nothing is known and nothing limited.

What a lowered clock costs is in the frames' times already, which the governor sees. What is read here is what times do
not show, or show too late: that heat is about to lower the clock, and that a battery runs out.

    class/thermal/thermal_zone*/temp, trip_point_*_type, trip_point_*_temp     thousandths of a degree
    devices/system/cpu/cpu*/thermal_throttle/core_throttle_count               how often heat lowered the clock
    class/power_supply/*/type, status, capacity                                per cent

Files: Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-power of the Linux kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
# Below these margins the share of the ladder that is left: degrees to the first trip point, share of the battery.
_HEAT = ((0.0, 0.0), (5.0, 0.5))
_BATTERY = ((0.10, 0.0), (0.25, 0.5))


@dataclass(frozen=True)
class Signals:
    """`margin_c`: degrees left until the first zone is cooled or halted; `throttled`: how often heat lowered a core's
    clock since the start of the system; `battery`: what is left of one that is being emptied, 0..1. None: not known,
    or mains."""

    margin_c: float | None = None
    throttled: int | None = None
    battery: float | None = None


_UNKNOWN = Signals()


def read(root: Path = SYS) -> Signals:
    """What is known now. Files that are absent or hold something else are passed over."""
    margins = [trip - temperature for temperature, trip in _zones(root)]
    counts = [_number(p) for p in root.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [count for count in counts if count is not None]
    batteries = list(_batteries(root))
    return Signals(min(margins, default=None), sum(known) if known else None, min(batteries, default=None))


def share(now: Signals, before: Signals = _UNKNOWN) -> float:
    """How much of the ladder may be used, 0..1: all, half, or the cheapest point only. `before`: what was read last;
    heat that lowered the clock since then leaves half."""
    left = 1.0
    for value, steps in ((now.margin_c, _HEAT), (now.battery, _BATTERY)):
        left = min(left, next((part for limit, part in steps if value is not None and value <= limit), 1.0))
    if now.throttled is not None and before.throttled is not None and now.throttled > before.throttled:
        left = min(left, 0.5)
    return left


def cap(points: int, left: float) -> int | None:
    """The highest index of so many points, for `Governor.limit`; None for no limit."""
    return None if left >= 1 else int(left * (points - 1))


def _zones(root: Path) -> Iterator[tuple[float, float]]:
    """(temperature, lowest trip point that cools or halts) of each thermal zone, in degrees. Fans are no loss."""
    for zone in root.glob("class/thermal/thermal_zone*"):
        temperature = _number(zone / "temp")
        trips = [
            _number(path.with_name(path.name.replace("_type", "_temp")))
            for path in zone.glob("trip_point_*_type")
            if _text(path) in ("passive", "hot", "critical")
        ]
        # Firmware writes 0 or less for trip points and sensors that it has not.
        real = [trip for trip in trips if trip is not None and trip > 0]
        if temperature is not None and temperature > 0 and real:
            yield temperature / 1000, min(real) / 1000


def _batteries(root: Path) -> Iterator[float]:
    for supply in root.glob("class/power_supply/*"):
        capacity = _number(supply / "capacity")
        # A mouse or a headset has a battery too: its scope is a device.
        of_system = _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device"
        if of_system and _text(supply / "status") == "Discharging" and capacity is not None:
            yield min(100, max(0, capacity)) / 100


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
