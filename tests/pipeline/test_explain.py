"""What explain says of a network whose times are made by hand, and really measured once."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, Capability, Device
from shoestring.core.explanation import UNKNOWN
from shoestring.core.precision import INT8, INT8_SAFE16
from shoestring.pipeline import sparsity
from shoestring.pipeline.explain import explain
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.table import LatencyTable

GROUPED = """
from torch import nn

def grouped():
    filters = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1, groups=8), nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(*filters).eval()
"""

STRUCTURED = ("structured:n=2", "structured:c=0.5")


@pytest.fixture
def table(original: Original, monkeypatch: pytest.MonkeyPatch) -> LatencyTable:
    """8 bits halve the stem, change the classifier by 2 %, and double everything else."""
    names = [layer.name for layer in original.layers]
    int8 = dict.fromkeys(names, 2.0) | {"stem.0": 0.5, "classifier": 0.98}
    made = LatencyTable(
        device="here",
        totals={"fp32": 9.0, "int8": 12.0},
        layers={name: {"fp32": 1.0, "int8": int8[name]} for name in names},
        rest={"fp32": 0.0, "int8": 0.0},
    )
    monkeypatch.setattr("shoestring.pipeline.explain.latency_table", lambda *_, **__: made)
    return made


def test_each_layer_with_what_8_bits_do_to_it(original: Original, device: Device, table: LatencyTable) -> None:
    told = explain(original, device)
    assert told.model == "tiny"
    assert told.totals == {"original": 9.0, "int8": 12.0}
    assert [item.layer for item in told.layers] == list(original.layers)
    assert {item.original_ms for item in told.layers} == {1.0}
    effects = {item.layer.name: item.effects for item in told.layers}
    assert {name for name, found in effects.items() if found} == set(int8.precisions(original.layers))
    (stem, low, *_), (classifier, linear, *_), (project, *_) = (
        effects[name] for name in ("stem.0", "classifier", "blocks.0.project.0")
    )
    assert (stem.name, stem.verdict, stem.ms, stem.note) == ("int8", RUNS, 0.5, "")
    assert (classifier.verdict, project.verdict) == (SLOWER, SLOWER)  # 2 % is no gain
    assert (project.ms, project.note) == (2.0, "not faster than fp32 here")
    assert {found[0].source for found in effects.values() if found} == {"measured in the whole network"}
    assert (low.name, low.verdict, low.ms) == ("lsq+:w4a4", STORED_ONLY, 0.5)  # 4 bits take the time of 8
    assert (linear.name, linear.verdict, linear.ms) == ("lsq+:w4a4", RUNS, None)  # nobody has timed this layer so


def test_zeros_and_channels_where_their_methods_take_any(
    original: Original, device: Device, table: LatencyTable
) -> None:
    """`magnitude` leaves the first, the last and depthwise layers whole, and `channels` the last, unless told so."""
    effects = {item.layer.name: item.effects[2:] for item in explain(original, device).layers if item.layer.weight}
    names = {name: [effect.name for effect in found] for name, found in effects.items()}
    patterns = [f"magnitude:{pattern}" for pattern in ("1x1@80%", "4x1@80%", "4x4@80%", "2:4")]
    assert names == {
        "stem.0": ["channels:30%"],
        "blocks.0.depthwise.0": ["channels:30%"],
        "blocks.0.project.0": [*patterns, "channels:30%"],
        "blocks.1.depthwise.0": ["channels:30%"],
        "blocks.1.project.0": [*patterns, "channels:30%"],
        "classifier": [],
    }
    *zeros, cut = effects["blocks.0.project.0"]
    assert {(zero.verdict, zero.ms) for zero in zeros} == {(NO_EFFECT, 2.0)}  # the time of dense 8 bits
    masked, two_of_four = "masked weights run at dense speed", "two of four weights at zero run at dense speed"
    assert [zero.note.split(" (")[0] for zero in zeros] == [masked, masked, masked, two_of_four]
    assert (cut.verdict, cut.ms) == (RUNS, None)  # nobody has timed it
    assert cut.note.startswith("removes whole channels: runs everywhere, see the staircase")
    assert (Path(__file__).parents[2] / cut.source).exists()


def test_no_pattern_where_it_does_not_fit(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two outputs and two inputs in a group: 4x1 and 4x4 reach over their end, and 2:4 needs four inputs."""
    (tmp_path / "net.py").write_text(GROUPED)
    grouped = resolve(f"{tmp_path / 'net.py'}:grouped", input="3x1x1")
    times = {layer.name: {"fp32": 1.0, "int8": 1.0} for layer in grouped.layers}
    made = LatencyTable("here", {"fp32": 3.0, "int8": 3.0}, times, {"fp32": 0.0, "int8": 0.0})
    monkeypatch.setattr("shoestring.pipeline.explain.latency_table", lambda *_, **__: made)
    effects = explain(grouped, device).layers[1].effects
    assert [effect.name for effect in effects] == ["int8", "lsq+:w4a4", "magnitude:1x1@80%", "channels:30%"]


def test_zeros_are_timed_where_they_are_left_out(
    original: Original, device: Device, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a runtime that is not a stock one; half of the blocks save nothing, four fifths do."""
    asked: list[set[str]] = []
    half, most = sparsity.option(50), sparsity.option(80)
    layers = {name: {**times, half: times["int8"], most: times["int8"] / 2} for name, times in table.layers.items()}

    def timed(variants: Mapping[str, ModelProto], *_: object, **__: object) -> LatencyTable:
        asked.append(set(variants))
        return replace(table, layers=layers, totals={**table.totals, half: 11.0, most: 7.0})

    monkeypatch.setattr("shoestring.pipeline.explain.latency_table", timed)
    said = Capability("engine", "N:M zeros", RUNS, "some are left out", "a test")
    told = explain(original, replace(device, runtime="engine", capabilities=(said,)))
    others = (sparsity.option(80, pattern) for pattern in ("1x1", "4x4"))
    assert asked == [{"fp32", "int8", *map(sparsity.option, sparsity.LEVELS), *others, *STRUCTURED}]
    found = {
        item.layer.name: [(e.setting, e.verdict, e.ms) for e in item.effects if e.method == "magnitude"]
        for item in told.layers
    }
    assert found["blocks.0.project.0"] == [
        ("4x1@50%", NO_EFFECT, 2.0),
        ("4x1@80%", RUNS, 1.0),
        ("2:4", RUNS, None),  # by the contract, which tells no time of this layer
    ]
    assert told.totals == {"original": 9.0, "int8": 12.0, "magnitude:4x1@50%": 11.0, "magnitude:4x1@80%": 7.0}
    assert found["stem.0"] == []  # it had no zeros, so its time says nothing about them


def test_low_bits_nobody_has_measured(original: Original, device: Device, table: LatencyTable) -> None:
    told = explain(original, replace(device, capabilities=()))
    unsaid = {(effect.method, effect.verdict) for item in told.layers for effect in item.effects[1:]}
    assert unsaid == {("lsq+", UNKNOWN), ("channels", RUNS)}


def test_notes_quote_the_contract_and_confess_random_weights(original, device: Device, table: LatencyTable) -> None:
    notes = explain(original, device).notes
    patterns, *rest = notes
    assert "(magnitude, ltp, block_ltp): 1x1 are unstructured zeros, 4x1 and 4x4 block zeros, 2:4 N:M" in patterns
    legal = [note for note in rest if "patent" in note]
    assert [note.partition(":")[0] for note in legal] == ["structured", "ltp", "block_ltp"]
    quoted = [note for note in rest if note not in legal]
    for entry, note in zip(device.capabilities, quoted, strict=True):
        assert note.startswith(f"{entry.feature}: {entry.verdict}")
        assert entry.source in note
    random = explain(replace(original, trained=False), device).notes
    assert random == ("The weights are random; times do not depend on that.", *notes)


def test_precisions(original: Original) -> None:
    """Depthwise layers are computed without pairs, so they keep the full range."""
    found = int8.precisions(original.layers)
    assert found["blocks.0.depthwise.0"] == INT8 == int8.precision(True, int8.parse(""))
    assert {p for name, p in found.items() if "depthwise" not in name} == {INT8_SAFE16}


def test_really_measured(original: Original, device: Device, brief) -> None:
    stages: list[tuple[str, float]] = []
    told = explain(original, device, lambda stage, share: stages.append((stage, share)))
    assert set(told.totals) == {"original", "int8", *STRUCTURED}
    assert all(ms > 0 for ms in told.totals.values())
    in_fp32 = sum(item.original_ms for item in told.layers)
    assert 0 < in_fp32 <= told.totals["original"] * 1.000001
    assert stages[-1] == ("latency table", 1.0)
    assert told.to_json()["device"]["runtime"] == "onnxruntime"


def test_decomposed_kernels(original: Original, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured layer by layer and whole; the notes say what it comes to by kind of layer, and of the patent."""
    depthwise = ("blocks.0.depthwise.0", "blocks.1.depthwise.0")
    options = {"fp32": 1.0, "int8": 0.5, "structured:n=2": 0.6, "structured:c=0.5": 0.25}

    def timed(variants: Mapping[str, ModelProto], names: list[str], *_, **__) -> LatencyTable:
        assert set(variants) == set(options)
        layers = {name: dict(options) for name in names}
        layers[depthwise[1]]["structured:n=2"] = 0.4
        return LatencyTable(
            "here", {**options, "int8": 5.0, "structured:n=2": 4.0}, layers, dict.fromkeys(options, 0.0)
        )

    monkeypatch.setattr("shoestring.pipeline.explain.latency_table", timed)
    told = explain(original, device)
    effects = {item.layer.name: [e for e in item.effects if e.method == "structured"] for item in told.layers}
    project = ("blocks.0.project.0", "blocks.1.project.0")
    assert {name for name, found in effects.items() if found} == {*depthwise, *project}
    (slow,), (fast,), (half,) = (effects[name] for name in (*depthwise, project[0]))
    assert (slow.setting, slow.verdict, slow.ms) == ("n=2", SLOWER, 0.6)
    assert (fast.verdict, fast.note) == (RUNS, "needs training or reconstruction")
    assert (half.setting, half.verdict, half.ms) == ("c=0.5", RUNS, 0.25)
    notes = " ".join(told.notes)
    assert (
        "structured:n=2 in every layer it is for: 1.25x of dense 8 bits (5 to 4 ms); 1 of 2 depthwise layers" in notes
    )
    assert "US 2021/0374537" in notes
    assert told.totals["structured:n=2"] == 4.0
