"""Made-up receipts and explanations that look like real ones, and a reader of HTML that knows nothing of our writer."""

import io
import random
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from shoestring.core.explanation import Effect, ExplainedLayer, Explanation
from shoestring.core.front import Front, FrontPoint
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.measurement import Measurement
from shoestring.core.profile import Operator, Profile, Roof
from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.core.receipt import (
    FAILS,
    HOLDS,
    NOISY,
    Baseline,
    BudgetLine,
    LayerTime,
    Quality,
    Receipt,
    Speedup,
    Step,
    Subject,
)

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)> [red]m[/red] \x1b[31m\u202eevil\x00 &amp; 'q'"
DEVICE = {
    "processor": "Intel Xeon (Cascade Lake)",
    "isa": "avx512_vnni",
    "threads": 2,
    "batch": 1,
    "versions": {"onnxruntime": "1.32.0", "openvino": "2026.4.0"},
}


def _layers(count: int = 60) -> tuple[LayerTime, ...]:
    dice = random.Random(7)
    names = ["expand.conv", "depthwise.conv", "project.conv", "add"]
    layers = []
    for index in range(count):
        before = round(dice.lognormvariate(-2.6, 0.8), 4)
        after = round(before / dice.uniform(0.8, 4.0), 4)
        layers.append(LayerTime(f"features.{index // 4}.{names[index % 4]}", before, after))
    return tuple(layers)


@pytest.fixture
def holds() -> Receipt:
    return Receipt(
        device=DEVICE,
        subject=Subject("efficientnet_lite0.shoe", "openvino", 1.921, 4_873_216, 61.4, 74.21, 3.687),
        baselines=(
            Baseline("fp32", "openvino", 5.613, 18_612_480, 74.83, True, 10.94),
            Baseline(
                "fp32", "onnxruntime", 6.288, 18_612_480, 74.83, False, 12.31, "4 threads were offered, 2 were used"
            ),
            Baseline("bf16", "openvino", 4.437, 9_306_240, 74.79, True, 8.652),
            Baseline("int8", "openvino", 2.514, 5_020_672, 74.06, True, 4.871),
        ),
        speedup=(
            Speedup("fp32", 2.922, 2.803, 3.041, {"runtime": 1.0, "precision": 2.233, "structure": 1.3085}, 0.709),
            Speedup("bf16", 2.310, 2.214, 2.402, {"runtime": 1.0, "precision": 1.765, "structure": 1.3088}, 0.672),
            Speedup("int8", 1.309, 1.253, 1.367, {"runtime": 1.0, "precision": 1.0, "structure": 1.309}, 0.655),
        ),
        quality=Quality("top-1", "pt", 74.83, 74.21, -0.62, -0.94, -0.31, 5000, 0.9318, 2.74),
        budget=(
            BudgetLine("latency", 0.6, 0.342, "x", True),
            BudgetLine("size", 5.5e6, 4_873_216, "B", True),
            BudgetLine("memory", 80.0, 61.4, "MB", True),
            BudgetLine("quality", -1.0, -0.62, "pt", True),
        ),
        verdict=HOLDS,
        layers=_layers(),
        notes=(
            "Calibrated on 512 photographs; none of them was used to judge.",
            "bf16 is emulated by onnxruntime: left out.",
        ),
        micronet=Measurement(0.4182, "", 1, 0.4182, 0.4182, "1.2M of 6.9M parameters and 286M of 1170M", "paper"),
        ledger=(
            Step("original", 5.613, 18_612_480, 100.0),
            Step("int8", 2.514, 5_020_672, 98.31),
            Step("structured:2x2 on 3 layers", 2.602, 4_104_192, 96.27, False, "slower than before"),
            Step("magnitude:4x1@50%", 1.921, 4_873_216, 97.86),
        ),
    )


@pytest.fixture
def fails(holds: Receipt) -> Receipt:
    budget = (BudgetLine("latency", 1.5, 1.921, "ms", False), BudgetLine("quality", -0.5, -0.62, "pt", False))
    slower = Speedup("int8", 0.913, 0.874, 0.951, {"runtime": 0.82, "precision": 1.0, "structure": 1.1134}, 0.457)
    quick = replace(holds.baselines[3], latency_ms=1.754)
    baselines, speedup = (*holds.baselines[:3], quick), (*holds.speedup[:2], slower)
    return replace(holds, verdict=FAILS, budget=budget, baselines=baselines, speedup=speedup)


@pytest.fixture
def noisy(holds: Receipt) -> Receipt:
    budget = (BudgetLine("latency", 1.5, 1.921, "ms", None), BudgetLine("memory", 80.0, None, "MB", None))
    wide = tuple(replace(item, low=item.ratio * 0.57, high=item.ratio * 1.61) for item in holds.speedup)
    return replace(holds, verdict=NOISY, budget=budget, speedup=wide, notes=("Load average 7.4 on 2 cores.",))


@pytest.fixture
def bare() -> Receipt:
    """A plain file against nothing: no baseline, no quality, no budget, no layers."""
    return Receipt({}, Subject("model.onnx", "onnxruntime", 12.5, 812), (), (), None, (), HOLDS)


@pytest.fixture
def hostile(holds: Receipt) -> Receipt:
    return Receipt(
        device={HOSTILE: {HOSTILE: [HOSTILE]}},
        subject=replace(holds.subject, file=HOSTILE, runtime=HOSTILE),
        baselines=tuple(replace(item, name=HOSTILE, runtime=HOSTILE, note=HOSTILE) for item in holds.baselines),
        speedup=tuple(replace(item, against=HOSTILE, split={HOSTILE: 2.0, "runtime": 1.1}) for item in holds.speedup),
        quality=replace(holds.quality, metric=HOSTILE, unit=HOSTILE),
        budget=tuple(replace(item, limit=HOSTILE, unit=HOSTILE) for item in holds.budget),
        verdict=HOSTILE,
        layers=tuple(replace(item, name=HOSTILE + item.name) for item in holds.layers),
        notes=(HOSTILE,) * 3,
        micronet=replace(holds.micronet, how=HOSTILE),
        ledger=tuple(replace(item, step=HOSTILE, note=HOSTILE) for item in holds.ledger),
    )


def _explained(index: int) -> ExplainedLayer:
    name = f"features.{index // 3}.block.{('expand', 'depthwise', 'project')[index % 3]}.conv"
    if index % 3 == 1:
        layer = Layer(name, DEPTHWISE, "Conv", (96, 56, 56), (96, 28, 28), (96, 1, 3, 3), (2, 2), 96, True, 677_376)
        effects = (
            Effect("int8", "", "slower", 0.0814, "depthwise loses in onnxruntime below 128 channels", "measured here"),
            Effect("magnitude", "4x1@80%", "no effect", None, "zeros are multiplied as any other number", "kernels.md"),
        )
        return ExplainedLayer(layer, 0.0713, effects)
    layer = Layer(name, CONV, "Conv", (16, 112, 112), (96, 112, 112), (96, 16, 1, 1), (1, 1), 1, True, 19_267_584)
    effects = (
        Effect("int8", "", "runs", 0.1042, "", "measured here"),
        Effect("magnitude", "4x1@80%", "stored only", 0.2461, "zeros are multiplied as any other number", "kernels.md"),
    )
    return ExplainedLayer(layer, 0.2418, effects)


@pytest.fixture
def explanation() -> Explanation:
    head = Layer("classifier", LINEAR, "Linear", (1280,), (1000,), (1000, 1280), bias=True, macs=1_280_000)
    layers = (*map(_explained, range(30)), ExplainedLayer(head, None, (Effect("int8", "", "unknown"),)))
    totals = {"original": 5.613, "int8": 2.514, "magnitude:4x1@80%": 5.702}
    return Explanation("efficientnet_lite0", DEVICE, layers, totals, ("Weights are random.",))


@pytest.fixture
def profile() -> Profile:
    """A pruned network on 1 core with a peak of 80 GMAC/s: 40 operators, slowest first."""
    stem = Operator("features.0.0", "conv 3x3 4x1", 0.8, 2_167_603, 10_838_016, 552_512)
    operators = [stem]
    for index in range(13):
        scale = 0.87**index
        name, dense = f"features.{index + 1}.conv", 10_000_000 + 1000 * index
        ms = 0.1 * scale
        operators += [
            Operator(f"{name}.0", "conv 1x1 4x1", ms, dense // 4, dense, 200_000),
            Operator(f"{name}.1", "depthwise 3x3", 1.3 * ms, dense // 9, dense // 9, round(1_000_000 * scale)),
            Operator(f"{name}.add", "add", 0.7 * ms, 0, 0, round(300_000 * scale)),
        ]
    told = {**DEVICE, "runtime": "engine"}
    ranked = tuple(sorted(operators, key=lambda item: -item.ms))
    return Profile("mobilenet.shoe", told, 3.21, Roof(80.0, 12.5, "a loop"), ranked, ("Made by hand.",))


def _planned(index: int) -> PlannedLayer:
    """Of three layers one stays as it is, and has no other choice."""
    scale, name = 0.9**index, f"blocks.{index // 10}.{index % 10}.{('depthwise', 'expand', 'project')[index % 3]}_conv"
    dense = Considered("fp32", 0.2 * scale, 40_000 + index, 0.0)
    if index % 3 == 0:
        return PlannedLayer(name, (dense,), "fp32")
    options = (
        dense,
        Considered("int8", 0.08 * scale, 10_000 + index, 0.0001, 0.00002),
        Considered("magnitude:4x1@50%", 0.05 * scale, 6_000 + index, 0.0025, 0.0002),
        Considered("magnitude:4x1@80%", 0.02 * scale, 3_000 + index, 0.04),
    )
    return PlannedLayer(name, options, "magnitude:4x1@50%", "int8")


@pytest.fixture
def proposal() -> Proposal:
    """Twelve layers, of which eight are pruned; an output error of 12.3 %."""
    return Proposal(
        model="efficientnet_lite0",
        budget="latency<=2ms, size<=4MB, quality>=-1pt",
        device={**DEVICE, "runtime": "engine"},
        layers=tuple(map(_planned, range(12))),
        original={"latency": 5.613, "size": 18_612_480},
        limits={"latency": 2.0, "size": 4e6, "loss": 0.02},
        totals={"latency": 1.921, "size": 3_873_216, "loss": 0.0151},
        prices={"latency": 0.012, "size": 0.0},
        gap=0.0006,
        methods=("magnitude:4x1@50%", "int8:blocks.0.*=dense"),
        runtimes={
            "engine": {"latency": 1.921, "size": 3_873_216, "loss": 0.0151},
            "openvino": {"latency": 2.412, "size": 4_204_000, "loss": 0.0312},
        },
        notes=("No labels: quality is judged by the outputs.",),
    )


@pytest.fixture
def hostile_proposal(proposal: Proposal) -> Proposal:
    layers = tuple(
        PlannedLayer(HOSTILE, (Considered(HOSTILE, 0.1, 10, 0.01, 0.001), Considered("b", 0.0, 0, 9e9)), HOSTILE, "b")
        for _ in range(3)
    )
    odd = {HOSTILE: 1.0, "latency": 2.0}
    return Proposal(
        HOSTILE,
        HOSTILE,
        {HOSTILE: HOSTILE},
        layers,
        odd,
        odd,
        odd,
        odd,
        methods=(HOSTILE,),
        runtimes={HOSTILE: odd},
        met=False,
        reason=HOSTILE,
        notes=(HOSTILE,),
    )


@pytest.fixture
def front(holds: Receipt) -> Front:
    """Five points; the third is slower and worse than the second."""
    told = (
        (0.58, 1_210_000, 9.70, FAILS, 68.13, -6.70, -7.61, -5.82, False),
        (0.87, 1_630_000, 6.45, HOLDS, 72.43, -2.40, -3.12, -1.71, False),
        (1.13, 2_900_000, 4.97, HOLDS, 72.13, -2.70, -3.44, -2.03, True),
        (1.62, 2_410_000, 3.46, HOLDS, 74.23, -0.60, -0.95, -0.25, False),
        (2.31, 3_990_000, 2.43, NOISY, 74.63, -0.20, -0.51, 0.14, False),
    )
    points = tuple(
        FrontPoint(f"net-{index}.shoe", f"latency<={ms:g}ms", "engine", ms, *rest)
        for index, (ms, *rest) in enumerate(told)
    )
    note = "latency<=0.5ms cannot be met: the cheapest plan takes 0.55 ms."
    return Front("net", "latency=0.5ms..2.5ms", DEVICE, points, holds.baselines, "top-1", "pt", (note,))


@pytest.fixture
def unjudged(front: Front) -> Front:
    points = tuple(replace(point, quality=None, difference=None, low=None, high=None) for point in front.points)
    return replace(front, points=points, metric="", unit="")


@pytest.fixture
def hostile_front(front: Front) -> Front:
    points = tuple(
        replace(point, file=HOSTILE, asked=HOSTILE, runtime=HOSTILE, verdict=HOSTILE) for point in front.points
    )
    baselines = tuple(replace(item, name=HOSTILE, runtime=HOSTILE) for item in front.baselines)
    return Front(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, points, baselines, HOSTILE, HOSTILE, (HOSTILE,))


class Page(HTMLParser):
    """Checks that tags balance and keeps what the tests ask for: tags with attributes, and the visible text."""

    VOID = frozenset({"meta", "br", "hr", "link", "img", "input"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append((tuple(self.open), data))

    def text(self, inside: str | None = None) -> str:
        """All text, or only the text inside one kind of tag."""
        return " ".join(data for path, data in self.texts if "style" not in path and (inside is None or inside in path))

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


@pytest.fixture
def read_page() -> type[Page]:
    return Page


@pytest.fixture(params=["holds", "fails", "noisy", "bare", "hostile"])
def any_receipt(request: pytest.FixtureRequest) -> Receipt:
    return request.getfixturevalue(request.param)


@pytest.fixture
def printed() -> Callable[..., str]:
    """What a print function writes into a pipe of some width and encoding."""

    def into_pipe(show: Callable[[Any, Console], None], report: Any, width: int = 80, encoding: str = "utf-8") -> str:
        pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        show(report, Console(file=pipe, width=width))
        pipe.flush()
        return pipe.buffer.getvalue().decode(encoding)

    return into_pipe


@pytest.fixture
def shows() -> Callable[[str, float], bool]:
    """Whether some number in a text is `value`, rounded to the digits that are shown, and within 5 %."""

    def some_number(text: str, value: float) -> bool:
        plain = text.replace("−", "-").replace(",", "")
        for shown in re.findall(r"-?\d+(?:\.\d+)?(?:e-\d+)?", plain):
            decimals = len(shown.partition(".")[2]) if "e" not in shown else 6
            error = abs(float(shown) - value)
            if error <= 0.501 * 10**-decimals and error <= 0.05 * abs(value):
                return True
        return False

    return some_number
