"""Devices in a terminal."""

import io

from rich.console import Console

from shoestring.core.device import NO_EFFECT, RUNS, Capability, Device
from shoestring.report.devices import print_devices

ENTRIES = (
    Capability("onnxruntime", "conv int8", RUNS, "fused", "benchmarks/contract.py"),
    Capability("onnxruntime", "zeros", NO_EFFECT, "dense speed", "benchmarks/contract.py"),
)


def printed(devices: tuple[Device, ...], sources: bool = False) -> str:
    out = io.StringIO()
    print_devices(devices, sources, Console(file=out, width=80))
    return out.getvalue()


def test_every_runtime_and_every_entry_is_there() -> None:
    devices = tuple(
        Device("Some processor", ("avx2",), 2, 1, name, version, entries)
        for name, version, entries in (("onnxruntime", "1.32.0", ENTRIES), ("openvino", "2026.4", ()))
    )
    text = printed(devices)
    for part in ("Some processor", "avx2", "2 usable", "onnxruntime 1.32.0", "openvino 2026.4", "conv int8: runs"):
        assert part in text
    assert "zeros: no effect" in text and "dense speed" in text
    assert "source" not in text
    assert printed(devices, sources=True).count("source: benchmarks/contract.py") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_a_strangers_text_is_not_markup() -> None:
    entry = Capability("r", "[red]x[/red]", RUNS, "\x1b[31mnote", "s")
    text = printed((Device("[bold]p", (), 1, 1, "r", "1", (entry,)),))
    assert "[red]x[/red]" in text and "[bold]p" in text and "\x1b" not in text


def test_nothing_here() -> None:
    assert printed(()).strip() == ""
