"""Menus from tables and losses made by hand: what is on them, and at what price."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.compress import structured_conv
from shoestring.core.device import Device
from shoestring.core.pattern import BlockPattern
from shoestring.core.proposal import Considered
from shoestring.pipeline import menus as module
from shoestring.pipeline import structure
from shoestring.pipeline.borders import ALTERNATE
from shoestring.pipeline.device import here
from shoestring.pipeline.menus import Menus, menus, timed, trials
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.sensitivity import LEVELS, Loss, Sensitivity, Trial
from shoestring.pipeline.table import LatencyTable

STEM, LAST = "stem.0", "classifier"
DEPTHWISE, PROJECTS = ("blocks.0.depthwise.0", "blocks.1.depthwise.0"), ("blocks.0.project.0", "blocks.1.project.0")
WEIGHTED = (STEM, DEPTHWISE[0], PROJECTS[0], DEPTHWISE[1], PROJECTS[1], LAST)
TAPS, CHANNELS = (structured_conv.parse(text) for text in ("n=2", "c=0.5"))
ZEROS = {25: 0.9, 50: 0.6, 70: 0.4, 80: 0.5, 90: 0.2, 95: 0.1}  # of dense ms; the one of 80 is noise
FOUR = BlockPattern(4, 1)


def named(percent: int) -> str:
    return f"magnitude:4x1@{percent}%:uniform"


def table(original: Original, options: Mapping[str, float | Mapping[str, float]], rest: float = 0.25) -> LatencyTable:
    """Of option to ms in each layer, or to ms by layer (1 in the others)."""
    layers = {
        layer.name: {
            option: ms.get(layer.name, 1.0) if isinstance(ms, Mapping) else ms for option, ms in options.items()
        }
        for layer in original.layers
    }
    return LatencyTable("here", dict.fromkeys(options, 9.0), layers, dict.fromkeys(options, rest))


@pytest.fixture
def engine(original: Original) -> LatencyTable:
    """Zeros pay in one layer, decomposing in the first depthwise one."""
    zeros = {named(percent): {PROJECTS[0]: ms} for percent, ms in ZEROS.items()}
    return table(original, {"int8": 1.0, **zeros, str(TAPS): {DEPTHWISE[0]: 0.5}, str(CHANNELS): 0.98})


@pytest.fixture
def stock(original: Original) -> LatencyTable:
    return table(original, {"int8": 1.0, "fp32": 2.0, str(TAPS): 1.1, str(CHANNELS): {PROJECTS[1]: 0.9}})


def losses(asked: Mapping[str, Trial]) -> dict[str, Sensitivity]:
    """8 bits lose 0.001, 4 bits 0.01, zeros 0.01 to 0.06, shapes 0.1; each with a tenth of it as noise."""
    zeros = {level: Loss(0.01 * (index + 1), 0.001 * (index + 1)) for index, level in enumerate(LEVELS)}
    bits = {8: Loss(0.001, 0.0001), 4: Loss(0.01, 0.001)}
    return {
        name: Sensitivity(
            zeros if trial.pattern else {},
            {width: bits[width] for width in trial.bits},
            {str(shape): Loss(0.1, 0.01) for shape in trial.shapes},
        )
        for name, trial in asked.items()
    }


def options(original: Original, own: LatencyTable, asked: Mapping[str, Trial]) -> Menus:
    return menus(original, here("onnxruntime"), own, asked, losses(asked))


def names(found: Menus, layer: str) -> list[str]:
    return [option.option for option in found.layers[layer]]


def by_name(found: Menus, layer: str) -> dict[str, Considered]:
    return {option.option: option for option in found.layers[layer]}


def test_what_is_tried(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """What takes less time than 8 bits on any runtime; 4 bits where the size is limited."""
    found = trials(original, [stock, engine], sized=False)
    assert tuple(found) == WEIGHTED
    assert found[PROJECTS[0]] == Trial(FOUR, (8,))
    assert found[PROJECTS[1]] == Trial(None, (8,), (CHANNELS,))
    assert found[DEPTHWISE[0]] == Trial(None, (8,), (TAPS,))
    assert {found[name] for name in (STEM, LAST, DEPTHWISE[1])} == {Trial(None, (8,))}
    assert {trial.bits for trial in trials(original, [stock], sized=True).values()} == {(8, 4)}
    assert all(trial.pattern is None for trial in trials(original, [stock], sized=False).values())


def test_hindered_layers_of_a_file_get_no_shapes(original: Original, engine, stock, monkeypatch) -> None:
    """Those of a torch model are modules already."""
    monkeypatch.setattr(structure, "hindrances", lambda _: {DEPTHWISE[0]: "their kernels have 3 axes"})
    for network, shapes in ((replace(original, model=None), ()), (original, (TAPS,))):
        found = trials(network, [stock, engine], sized=False)
        assert found[DEPTHWISE[0]].shapes == shapes
        assert found[PROJECTS[1]].shapes == (CHANNELS,)


def test_narrow_layers_get_the_blocks_that_fit(tmp_path: Path) -> None:
    """Of three outputs no four can go together."""
    (tmp_path / "narrow.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1))\n"
    )
    narrow = resolve(f"{tmp_path}/narrow.py:make", input="3x8x8")
    found = trials(narrow, [table(narrow, {"int8": 1.0, named(50): 0.5})], sized=False)
    assert [trial.pattern for trial in found.values()] == [None, BlockPattern(3, 1), None]


def test_layers_called_twice_have_no_menu(tmp_path: Path) -> None:
    """What they take counts with the rest."""
    (tmp_path / "twice.py").write_text(
        "from torch import nn\nclass Twice(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)\n"
        "    def forward(self, x):\n        return self.last(self.conv(self.conv(x)))\n"
    )
    twice = resolve(f"{tmp_path}/twice.py:Twice", input="3x8x8")
    own = table(twice, {"int8": {"conv": 2.0, "conv:2": 3.0}})
    asked = trials(twice, [own], sized=True)
    found = options(twice, own, asked)
    assert list(asked) == list(found.layers) == ["last"]
    assert found.spent["latency"] == 0.25 + 2 + 3


def test_what_is_on_the_menus(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """fp32 where the runtime computes in floats, zeros and shapes where they are faster there, 4 bits where asked."""
    asked = trials(original, [stock, engine], sized=True)
    fast, slow = options(original, engine, asked), options(original, stock, asked)
    assert list(fast.layers) == list(slow.layers) == list(WEIGHTED)
    shares = range(10, 96, 5)
    assert names(fast, PROJECTS[0]) == [
        *("int8", *(f"magnitude:4x1@{share}%" for share in shares)),
        *("int8:w4", *(f"magnitude:4x1@{share}%, int8:w4" for share in shares)),
    ]
    assert names(fast, DEPTHWISE[0]) == ["int8", "int8:w4", "structured:n=2"]
    assert names(slow, PROJECTS[1]) == ["fp32", "int8", "int8:w4", "structured:c=0.5"]
    for found, others in ((fast, [STEM, DEPTHWISE[1], PROJECTS[1], LAST]), (slow, [STEM, *DEPTHWISE, PROJECTS[0]])):
        prefix = ["fp32"] if found is slow else []
        assert all(names(found, name) == [*prefix, "int8", "int8:w4"] for name in others)
    plain = options(original, stock, trials(original, [stock, engine], sized=False))
    assert names(plain, PROJECTS[1]) == ["fp32", "int8", "structured:c=0.5"]


def test_milliseconds(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """Between shares that were timed on straight lines; more zeros never take longer."""
    asked = trials(original, [stock, engine], sized=True)
    found = by_name(options(original, engine, asked), PROJECTS[0])
    for share in range(10, 96, 5):
        ms = np.interp(share, [0, 25, 50, 70, 80, 90, 95], [1, 0.9, 0.6, 0.4, 0.4, 0.2, 0.1])
        assert found[f"magnitude:4x1@{share}%"].ms == pytest.approx(ms)
        assert found[f"magnitude:4x1@{share}%, int8:w4"].ms == pytest.approx(ms)
    assert found["int8"].ms == found["int8:w4"].ms == 1
    assert by_name(options(original, stock, asked), PROJECTS[1])["fp32"].ms == 2
    assert by_name(options(original, stock, asked), PROJECTS[1])["structured:c=0.5"].ms == 0.9
    assert by_name(options(original, engine, asked), DEPTHWISE[0])["structured:n=2"].ms == 0.5


def test_sizes(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """Bytes of weights, positions of blocks, and for each of 16 outputs 4 of a bias and 4 of a scale."""
    asked = trials(original, [stock, engine], sized=True)
    floats, found = (by_name(options(original, own, asked), PROJECTS[0]) for own in (stock, engine))
    assert floats["fp32"].size == 4 * (256 + 16)
    assert found["int8"].size == 256 + 128
    assert found["int8:w4"].size == 128 + 128
    assert found["magnitude:4x1@50%"].size == 128 + 8 + 128
    assert found["magnitude:4x1@50%, int8:w4"].size == 64 + 8 + 128
    assert by_name(options(original, engine, asked), DEPTHWISE[0])["structured:n=2"].size == 16 * 4 + 128
    assert by_name(options(original, stock, asked), PROJECTS[1])["structured:c=0.5"].size == 16 * 8 + 128


def test_losses(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """What zeros and shapes do comes on top of what bits do: of the outputs, shares are left, and they multiply. The
    noise of both is independent."""

    def left(*values: float) -> float:
        return float(-np.log(np.prod([1 - value for value in values])))

    asked = trials(original, [stock, engine], sized=True)
    found = by_name(options(original, engine, asked), PROJECTS[0])
    shape = by_name(options(original, engine, asked), DEPTHWISE[0])["structured:n=2"]
    assert by_name(options(original, stock, asked), PROJECTS[0])["fp32"].loss == 0
    expected = {
        "int8": (left(0.001), 0.0001 / 0.999),
        "int8:w4": (left(0.01), 0.001 / 0.99),
        "magnitude:4x1@50%": (left(0.03, 0.001), np.hypot(0.003 / 0.97, 0.0001 / 0.999)),
        "magnitude:4x1@50%, int8:w4": (left(0.03, 0.01), np.hypot(0.003 / 0.97, 0.001 / 0.99)),
    }
    for name, (loss, noise) in expected.items():
        assert (found[name].loss, found[name].noise) == pytest.approx((loss, noise))
    assert (shape.loss, shape.noise) == pytest.approx((left(0.1, 0.001), np.hypot(0.01 / 0.9, 0.0001 / 0.999)))


def test_harmless_is_not_free(original: Original, engine: LatencyTable, stock: LatencyTable) -> None:
    """So that of two runtimes' plans without loss the faster one counts, fp32 is a little better than 8 bits."""
    asked = trials(original, [stock], sized=False)
    found = {name: replace(own, bits={8: Loss(0.0)}) for name, own in losses(asked).items()}
    floats, integers = menus(original, here("onnxruntime"), stock, asked, found).layers[STEM]
    assert 0 == floats.loss < integers.loss < 1e-12


def test_the_rest(original: Original, stock: LatencyTable) -> None:
    """All layers that have no menu: in 8 bits where they can be, and what belongs to no layer."""
    asked = trials(original, [stock], sized=False)
    own = table(original, {"int8": {"add": 3.0, PROJECTS[0]: 5.0}, "fp32": 7.0})
    fewer = {name: trial for name, trial in asked.items() if name in PROJECTS}
    found = options(original, own, fewer)
    assert list(found.layers) == list(PROJECTS)
    assert found.spent["latency"] == 0.25 + 3 + (len(original.layers) - 3) * 1.0
    assert found.spent["size"] == (16 * 27 + 128) + 2 * (16 * 9 + 128) + (10 * 16 + 80)
    whole = options(original, own, asked)
    assert whole.spent == {"latency": 0.25 + 3 + 2 * 1.0, "size": 0}


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Gets the options that are timed on each runtime."""
    seen: dict[str, list[str]] = {}

    def made(variants: Mapping[str, ModelProto], layers: list[str], device: Device, progress) -> LatencyTable:
        seen[device.runtime] = list(variants)
        progress(0.5)
        return LatencyTable(device.runtime, {}, {name: {} for name in layers}, {})

    monkeypatch.setattr(module, "latency_table", made)
    return seen


def test_what_is_timed(original: Original, asked_for: dict[str, list[str]]) -> None:
    """Zeros in the engine; on the stock runtime floats, alone and in turn with 8 bits; in the order of the devices."""
    devices = [replace(here("onnxruntime"), runtime=name) for name in ("onnxruntime", "engine")]
    shares: list[float] = []
    found = timed(original, devices, (), shares.append)
    assert [own.device for own in found] == ["onnxruntime", "engine"]
    assert shares == [0.25, 0.75]
    shapes = ["structured:n=2", "structured:c=0.5"]
    assert asked_for == {
        "onnxruntime": ["int8", "fp32", ALTERNATE, *shapes],
        "engine": ["int8", *map(named, ZEROS), *shapes],
    }


def test_what_a_runtime_refuses_is_no_option(original: Original, asked_for, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "takes", lambda runtime, graph: False)
    timed(original, [here("onnxruntime")], ["magnitude"], lambda _: None)
    assert asked_for == {"onnxruntime": ["int8", "fp32", ALTERNATE]}


def test_what_alternating_takes_is_shared_out(original: Original) -> None:
    """By the bytes that pass a border. The first, third and fifth layer are in 8 bits."""
    own = table(original, {"int8": 1.0, "fp32": 2.0, ALTERNATE: 1.0})
    sums = 0.25 + sum(2.0 if layer.name in (*DEPTHWISE, LAST) or not layer.weight else 1.0 for layer in original.layers)
    found = options(
        original, replace(own, totals={**own.totals, ALTERNATE: sums + 3.0}), trials(original, [own], False)
    )
    floats = {*DEPTHWISE, LAST}
    crossing = {pair: ms for pair, ms in found.borders.items() if (pair[0] in floats) != (pair[1] in floats)}
    assert sum(crossing.values()) == pytest.approx(3.0)
    sizes = {LAST: 16, **dict.fromkeys((*DEPTHWISE, *PROJECTS), 16 * 16 * 16)}
    shares = {pair: ms / sizes[pair[1]] for pair, ms in found.borders.items()}
    assert len({round(share, 9) for share in shares.values()}) == 1
    assert options(original, table(original, {"int8": 1.0}), trials(original, [own], False)).borders == {}


@pytest.mark.parametrize(
    ("without", "left"),
    [
        (["magnitude"], ["int8", "structured:n=2", "structured:c=0.5"]),
        (["structured"], ["int8", *map(named, ZEROS)]),
        (["magnitude", "structured"], ["int8"]),
    ],
)
def test_without(without: list[str], left: list[str], original: Original, asked_for) -> None:
    timed(original, [replace(here("onnxruntime"), runtime="engine")], without, lambda _: None)
    assert asked_for == {"engine": left}
