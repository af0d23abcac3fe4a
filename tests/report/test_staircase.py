"""Staircases in a terminal and as a page: every time is there, and every dot where it belongs."""

import io
import re
from itertools import chain

import pytest
from rich.console import Console

from shoestring.core.device import Device
from shoestring.core.staircase import WIDTHS, Staircase
from shoestring.report.staircase import curves, print_staircases, staircases_html

DEVICES = tuple(
    Device("Intel <Xeon>", ("avx2",), 4, 2, name, version)
    for name, version in (("onnxruntime", "1.32.0"), ("openvino", "2026.4.0"), ("engine", "1 (avx2)"))
)


def stairs(step: int, ms: float) -> tuple[float, ...]:
    """Of a kernel that works on `step` channels at a time."""
    return tuple(ms * (0.1 + 0.01 * step * -(-width // step)) for width in WIDTHS)


def staircase(step: int, ms: float) -> Staircase:
    return Staircase("here", WIDTHS, {"3x3": stairs(step, ms), "depthwise": stairs(step, 2 * ms)})


FOUND = {"onnxruntime": staircase(8, 1.0), "openvino": staircase(32, 0.5), "engine": staircase(1, 0.25)}


def shown(width: int = 100, devices: tuple[Device, ...] = DEVICES) -> list[str]:
    out = io.StringIO()
    print_staircases(devices, FOUND, Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_every_runtime_and_kind_with_the_multiple_to_snap_to() -> None:
    lines = shown()
    heads = [line for line in lines if ": " in line]
    assert heads == [
        "staircase of onnxruntime 1.32.0: multiples of 8",
        "  3x3 convolutions, ms by channels: multiples of 8",
        "  depthwise convolutions, ms by channels: multiples of 8",
        "staircase of openvino 2026.4.0: multiples of 32",
        "  3x3 convolutions, ms by channels: multiples of 32",
        "  depthwise convolutions, ms by channels: multiples of 32",
        "staircase of engine 1 (avx2): any width",
        "  3x3 convolutions, ms by channels: any width",
        "  depthwise convolutions, ms by channels: any width",
    ]
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("width", [100, 80, 20])
def test_the_widths_with_their_times(width: int) -> None:
    """In as many pieces as the width asks for; those worth snapping to have a star."""
    lines = shown(width, DEVICES[:1])
    assert all(len(line) <= width for line in lines if not line.lstrip().startswith(("staircase", "3x3", "depthwise")))
    numbers = [line.split() for line in lines if re.fullmatch(r"[\d.* ]+", line)]
    widths, times = list(chain(*numbers[::2])), list(chain(*numbers[1::2]))
    assert widths == [f"{width}{'*' * (width % 8 == 0)}" for width in WIDTHS] * 2
    assert [float(ms) for ms in times] == pytest.approx(stairs(8, 1.0) + stairs(8, 2.0), abs=0.0006)
    assert [len(row) for row in numbers[:4:2]] == {100: [16, 16], 80: [8, 8], 20: [3, 3]}[width]


def test_blocks_rise_with_the_times() -> None:
    """Three lines of them: the shortest time an eighth of a line, the longest all three, equal times equally high."""
    lines = shown(100, DEVICES[:1])
    (first,) = [index for index, line in enumerate(lines) if line.startswith("  3x3")]
    rows = [line.ljust(100)[2:98] for line in lines[first + 1 : first + 4]]
    heights = [sum(" ▁▂▃▄▅▆▇█".index(row[6 * place]) for row in rows) for place in range(len(WIDTHS))]
    assert (heights[0], heights[-1]) == (1, 24)
    assert heights == sorted(heights)
    assert [heights[a] == heights[b] for a, b in ((1, 3), (3, 4), (4, 5), (5, 7), (6, 8))] == [True] * 2 + [
        False,
        True,
        True,
    ]


def test_letters_only(printed) -> None:
    def show(found: dict[str, Staircase], console: Console) -> None:
        print_staircases(DEVICES[:1], found, console)

    text = printed(show, FOUND, 100, "ascii")
    assert "?" not in text
    assert "#####" in text
    assert "64*" in text


def test_times_of_every_size_keep_their_columns() -> None:
    found = {"engine": Staircase("here", (32, 64, 96), {"3x3": (0.00042, 9.99951, 123.4)})}
    out = io.StringIO()
    print_staircases(DEVICES[2:], found, Console(file=out, width=100))
    assert " 0.000  10.0 123.4" in out.getvalue()


def test_the_page(read_page) -> None:
    source = staircases_html(DEVICES, FOUND)
    page = read_page(source)
    text = page.text()
    assert "Intel <Xeon>, 2 threads." in text
    assert "<Xeon>" not in source
    assert [data for path, data in page.texts if "h2" in path] == ["3x3 convolutions", "Depthwise convolutions"]
    for told in ("onnxruntime: multiples of 8", "openvino: multiples of 32", "engine: any width"):
        assert text.count(told) == 2
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", source)
    assert facts == [("onnxruntime 1.32.0", "8"), ("openvino 2026.4.0", "32"), ("engine 1 (avx2)", "1")]
    assert not page.find("script")
    assert not re.search(r"(src|href)=|url\(", source)


def test_the_tables_have_every_time(read_page) -> None:
    tables = staircases_html(DEVICES, FOUND).split("<table>")[1:]
    assert len(tables) == 2
    for table, times in zip(tables, (1.0, 2.0), strict=True):
        rows = re.findall(r'<th scope="row">(\d+)</th>(.*?)</tr>', table)
        assert [int(width) for width, _ in rows] == list(WIDTHS)
        columns = [stairs(8, times), stairs(32, 0.5 * times), stairs(1, 0.25 * times)]
        for index, (width, cells) in enumerate(rows):
            cell = re.findall(r'<td class="number">(<strong>)?([\d.]+)', cells)
            assert [float(ms) for _, ms in cell] == pytest.approx([ms[index] for ms in columns], rel=0.006)
            assert [bool(bold) for bold, _ in cell] == [int(width) % 8 == 0, int(width) % 32 == 0, False]


def test_dots_are_where_the_widths_are() -> None:
    """Across in proportion to the channels, up to the milliseconds; none where any width will do."""
    picture = curves("3x3", FOUND)
    dots = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)".*?<title>(\w+): ([\d.]+) ms at (\d+) channels', picture)
    assert [(runtime, int(width)) for _, _, runtime, _, width in dots] == [
        *(("onnxruntime", width) for width in WIDTHS if width % 8 == 0),
        *(("openvino", width) for width in WIDTHS if width % 32 == 0),
    ]
    for x, y, runtime, ms, width in dots:
        assert float(x) == pytest.approx(10 + 88 * (int(width) - 32) / 64, abs=0.001)
        exact = FOUND[runtime].ms["3x3"][WIDTHS.index(int(width))]
        assert float(ms) == pytest.approx(exact, rel=0.006)
        assert float(y) == pytest.approx(420 - 390 * exact / max(stairs(8, 1.0)), abs=0.1)
    for look in ("first", "second", "third"):
        assert picture.count(f'class="series {look}"') == len(WIDTHS) - 1
    assert "engine: 0.105 at 32" in picture  # for those who cannot see it
    marks = [float(text) for text in re.findall(r">([\d.]+)</text>", picture)]
    assert marks == [*range(32, 97, 8), 0, 0.2, 0.4, 0.6, 0.8, 1]


def test_a_runtime_that_lacks_a_kind_and_one_with_other_widths() -> None:
    found = FOUND | {"engine": Staircase("here", (32, 40, 64, 128), {"3x3": (0.1, 0.2, 0.3, 0.4)})}
    source = staircases_html(DEVICES, found)
    assert len(re.findall(r'<th scope="row">128</th>', source)) == 1
    assert source.count("–") >= 2
    assert "engine: " not in source.split("<h2>Depthwise")[1]
