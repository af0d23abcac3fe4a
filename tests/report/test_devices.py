import io
from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console

from shoestring.core.device import NO_EFFECT, RUNS, WRONG, Capability, Device
from shoestring.report.devices import print_devices

CAPABILITIES = (
    Capability("onnxruntime", "conv int8", RUNS, "fused [red]here[/red]", "kernels.md"),
    Capability("onnxruntime", "unstructured zeros", NO_EFFECT, "dense speed", "measured"),
    Capability("onnxruntime", "full range", WRONG, "saturates", "its manual"),
)
DEVICES = (
    Device("Intel Xeon", ("avx2", "avx512f"), 4, 1, "onnxruntime", "1.32.0", CAPABILITIES),
    Device("Intel Xeon", ("avx2", "avx512f"), 4, 1, "openvino", "2026.4.0"),
)


def shown(
    devices: tuple[Device, ...], sources: bool, colour: bool = False, absent: Mapping[str, str] = MappingProxyType({})
) -> str:
    out = io.StringIO()
    colours = "standard" if colour else None
    print_devices(devices, absent, sources, Console(file=out, width=80, force_terminal=colour, color_system=colours))
    return out.getvalue()


def test_the_processor_once_and_each_runtime_with_what_it_does() -> None:
    lines = [line.rstrip() for line in shown(DEVICES, sources=False).splitlines()]
    assert sum("Intel Xeon" in line for line in lines) == 1
    assert "sets       avx2, avx512f" in lines
    assert "cores      4 usable" in lines
    assert lines.index("onnxruntime 1.32.0") < lines.index("  conv int8: runs") < lines.index("openvino 2026.4.0")
    assert "    fused [red]here[/red]" in lines
    assert "  unstructured zeros: no effect" in lines
    assert "source" not in "".join(lines)


def test_sources() -> None:
    lines = [line.rstrip() for line in shown(DEVICES, sources=True).splitlines()]
    assert [line for line in lines if "source" in line] == [
        "    source: kernels.md",
        "    source: measured",
        "    source: its manual",
    ]


def test_colours_say_the_same() -> None:
    """Green runs, yellow does nothing, bold red is wrong; never the colour alone."""
    text = shown(DEVICES, sources=False, colour=True)
    assert "\x1b[32m  conv int8: runs" in text
    assert "\x1b[33m  unstructured zeros: no effect" in text
    assert "\x1b[1;31m  full range: wrong" in text


def test_a_system_that_tells_nothing() -> None:
    assert "sets       unknown" in shown((Device("arm64", (), 1, 1, "onnxruntime", "1.0"),), sources=False)
    assert shown((), sources=True).strip() == ""


def test_a_runtime_that_is_absent_and_how_to_get_it() -> None:
    lines = [line.rstrip() for line in shown(DEVICES, sources=False, absent={"engine": "build it"}).splitlines()]
    assert lines.index("openvino 2026.4.0") < lines.index("engine: absent") == lines.index("  build it") - 1
