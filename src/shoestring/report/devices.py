"""Devices in a terminal: the processor, the runtimes, and the capability contract that applies to each."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from shoestring.core.device import NO_EFFECT, REFUSED, RUNS, SLOWER, STORED_ONLY, WRONG, Device
from shoestring.report.terminal import print_fact, print_line

_STYLE = {
    RUNS: "green",
    NO_EFFECT: "yellow",
    STORED_ONLY: "yellow",
    SLOWER: "red",
    WRONG: "bold red",
    REFUSED: "red",
}


def print_devices(devices: Sequence[Device], absent: Mapping[str, str], sources: bool, console: Console) -> None:
    """Prints one section a runtime; `sources` adds where each entry comes from. `absent`: runtimes that are not here,
    and how to get them."""
    if devices:
        first = devices[0]
        print_line(console)
        print_fact(console, "processor", first.processor)
        print_fact(console, "sets", ", ".join(first.isa) or "unknown")
        print_fact(console, "cores", f"{first.cores} usable")
    for device in devices:
        print_line(console)
        print_line(console, f"{device.runtime} {device.version}", "bold")
        for entry in device.capabilities:
            print_line(console, f"  {entry.feature}: {entry.verdict}", _STYLE.get(entry.verdict, ""))
            print_line(console, f"    {entry.note}")
            if sources:
                print_line(console, f"    source: {entry.source}")
    for name, reason in absent.items():
        print_line(console)
        print_line(console, f"{name}: absent", "bold")
        print_line(console, f"  {reason}")
    print_line(console)
