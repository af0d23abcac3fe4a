"""Receipt: schema 1 is what was agreed on, is read as it was written, and nothing else is read."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.core.measurement import Measurement
from shoestring.core.receipt import (
    FAILS,
    HOLDS,
    NOISY,
    Baseline,
    BudgetLine,
    LayerTime,
    Quality,
    Receipt,
    Rung,
    Speedup,
    Step,
    Subject,
)

FULL = Receipt(
    device={"processor": "CPU", "isa": ["avx2"], "threads": 1, "runtimes": {"openvino": "2026.4"}},
    subject=Subject("x.shoe", "openvino", 1.5, 4_000_000, 60.5, 98.5, 1.4),
    baselines=(
        Baseline("fp32", "openvino", 3.0, 16_000_000, 99.0),
        Baseline("int8", "onnxruntime", 2.0, 1, best=False),
    ),
    speedup=(Speedup("fp32", 2.0, 1.9, 2.1, {"runtime": 1.0, "precision": 2.0}, 1.1), Speedup("int8", 1.3, 1.2, 1.4)),
    quality=Quality("top-1", "pt", 99.0, 98.5, -0.5, -0.9, -0.1, 500, 0.98, 1.2),
    budget=(BudgetLine("latency", 0.6, 0.5, "x", True), BudgetLine("memory", 30.0, None, "MB", None)),
    verdict=HOLDS,
    layers=(LayerTime("stem", 0.25, 0.125),),
    notes=("No training was done.",),
    micronet=Measurement(0.297, "", 1, 0.297, 0.297, "0.65M of 6.9M parameters", "paper"),
    ledger=(Step("original", 3.0, 16_000_000, 100.0), Step("int8", 2.0, 4_000_000, 98.0, False, "lost too much")),
)

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
# Strategies by the text of a field's type, so that a new kind of field must be thought of here.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "int": st.integers(),
    "float": NUMBER,
    "bool": st.booleans(),
    "float | None": st.none() | NUMBER,
    "bool | None": st.none() | st.booleans(),
    "collections.abc.Mapping[str, float]": st.dictionaries(TEXT, NUMBER, max_size=3),
}


def made(kind: type) -> st.SearchStrategy[Any]:
    fields = dataclasses.fields(kind)
    named = (field.type.__name__ if isinstance(field.type, type) else str(field.type) for field in fields)
    return st.builds(kind, **{field.name: KINDS[name] for field, name in zip(fields, named, strict=True)})


def some(kind: type) -> st.SearchStrategy[Any]:
    return st.lists(made(kind), max_size=2).map(tuple)


RECEIPTS = st.builds(
    Receipt,
    device=st.dictionaries(TEXT, PLAIN, max_size=3),
    subject=made(Subject),
    baselines=some(Baseline),
    speedup=some(Speedup),
    quality=st.none() | made(Quality),
    budget=some(BudgetLine),
    verdict=st.sampled_from([HOLDS, FAILS, NOISY]),
    layers=some(LayerTime),
    notes=st.lists(TEXT, max_size=2).map(tuple),
    micronet=st.none() | made(Measurement),
    ledger=some(Step),
    ladder=some(Rung),
)


def written(receipt: Receipt = FULL) -> Any:
    return json.loads(json.dumps(receipt.to_json()))


@given(RECEIPTS)
def test_what_is_written_is_read(receipt: Receipt) -> None:
    assert Receipt.from_json(written(receipt)) == receipt
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_the_json_is_that_of_the_design() -> None:
    """DESIGN, section 6: these keys at least."""
    data = written()
    assert (data["schema"], data["verdict"]) == (1, "holds")
    assert data["device"]["isa"] == ["avx2"]
    assert {"file", "runtime", "latency_ms", "size_bytes", "peak_mb"} <= data["subject"].keys()
    assert {"name", "runtime", "latency_ms", "size_bytes", "quality"} <= data["baselines"][0].keys()
    assert {"against", "ratio", "low", "high", "split", "realisation"} <= data["speedup"][0].keys()
    assert {"metric", "original", "subject", "difference", "low", "high", "n"} <= data["quality"].keys()
    assert {"limit", "asked", "got", "met"} <= data["budget"][0].keys()
    assert (HOLDS, FAILS, NOISY) == ("holds", "fails", "too noisy")


def test_fields_with_a_default_may_be_absent() -> None:
    data = written()
    for path in (
        ("layers",),
        ("notes",),
        ("micronet",),
        ("ledger",),
        ("ladder",),
        ("subject", "peak_mb"),
        ("quality", "agreement"),
        ("speedup", 0, "split"),
    ):
        del at(data, path[:-1])[path[-1]]
    receipt = Receipt.from_json(data)
    assert (receipt.layers, receipt.notes, receipt.ledger, receipt.ladder) == ((), (), (), ())
    assert receipt.subject.peak_mb is None
    assert (receipt.quality and receipt.quality.agreement, receipt.speedup[0].split) == (None, {})


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in places(item, (*path, key)))]


def refused(data: Any, words: str = "") -> None:
    with pytest.raises(BadInput, match=rf"^receipt.*{words}.*; measure again with this version$") as caught:
        Receipt.from_json(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [None, [], "text", 1, {}, [("schema", 1)]])
def test_what_is_no_receipt_is_refused(data: Any) -> None:
    refused(data, "is not 1")


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.0, [1], "x" * 5000, "\x1b[2J"])
def test_other_schemas_are_refused(schema: Any) -> None:
    refused({**written(), "schema": schema}, "schema .* is not 1")


# The places that have a type: below `device` any JSON may stand.
TYPED = [path for path in places(written()) if path[:1] != ("device",) or len(path) == 1]
NULLABLE = {"peak_mb", "quality", "cpu_ms", "realisation", "agreement", "divergence", "got", "met", "micronet"}
# Optional elsewhere: a receipt may have no quality (and says so), each step of a ledger has one.
REQUIRED = {("quality",), *(("ledger", index, "quality") for index in range(len(FULL.ledger)))}
DEFAULTED = {*NULLABLE - {"got", "met"}, "best", "note", "split", "layers", "notes", "ledger", "kept", "ladder"}


def kind(value: Any) -> str:
    """What JSON calls it."""
    names = {bool: "true or false", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    data = written()
    at(data, path[:-1])[path[-1]] = value
    return data


@pytest.mark.parametrize("path", TYPED, ids=str)
def test_another_kind_of_value_is_refused_everywhere(path: tuple[Any, ...]) -> None:
    right = at(written(), path)
    for wrong in (True, 7, "text", [], {}):
        if right is not None and kind(wrong) != kind(right):
            refused(replaced(path, wrong), next((key for key in reversed(path) if isinstance(key, str)), ""))


@pytest.mark.parametrize("path", TYPED, ids=str)
def test_null_is_refused_unless_it_says_something(path: tuple[Any, ...]) -> None:
    if path and path[-1] in NULLABLE and path not in REQUIRED - {("quality",)}:
        assert at(written(Receipt.from_json(replaced(path, None))), path) is None
    else:
        refused(replaced(path, None))


@pytest.mark.parametrize("path", [path for path in TYPED if path and isinstance(path[-1], str)], ids=str)
def test_a_missing_field_is_named_unless_it_has_a_default(path: tuple[Any, ...]) -> None:
    data = written()
    del at(data, path[:-1])[path[-1]]
    if path not in REQUIRED and (path[-1] in DEFAULTED or path[-2:-1] == ("split",)):
        assert isinstance(Receipt.from_json(data), Receipt)
    else:
        refused(data, path[-1])


@pytest.mark.parametrize("path", [path for path in TYPED if isinstance(at(written(), path), dict)], ids=str)
def test_an_unknown_field_is_named(path: tuple[Any, ...]) -> None:
    data = written()
    at(data, path)["hidden\x1b"] = 1.0
    if path[-1:] in (("device",), ("split",)):  # their keys are free
        assert Receipt.from_json(data) != FULL
    else:
        refused(data, r"unknown field 'hidden\\x1b'")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("verdict",), "great", "the verdict 'great' is unknown"),
        (("subject", "size_bytes"), 1.5, "subject.size_bytes is a float, not a int"),
        (("quality", "n"), 1.5, "quality.n is a float"),
        (("notes",), "abc", "notes is a str, not a list"),
        (("notes",), [1], r"notes\[0\] is a int"),
        (("speedup", 1, "low"), "1.2", r"speedup\[1\].low is a str"),
        (("speedup", 0, "split"), {"runtime": "1"}, r"speedup\[0\].split\['runtime'\] is a str"),
        (("quality",), {}, "quality has no metric"),
        (("device",), [["a", 1]], "device is not an object"),
    ],
)
def test_refusals_name_the_place(path: tuple[Any, ...], value: Any, words: str) -> None:
    refused(replaced(path, value), words)


@given(st.sampled_from(places(written())), PLAIN)
def test_what_is_accepted_is_kept_whole(path: tuple[Any, ...], value: Any) -> None:
    data = replaced(path, value)
    try:
        receipt = Receipt.from_json(data)
    except BadInput as error:
        assert str(error).isprintable()
    else:
        assert written(receipt) == data or at(data, path) == {}  # an empty split
