"""Strict JSON and typed dataclasses."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.schema import MAX_DEPTH, dump_json, mismatch, one_line, parse_json, read

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_dumped_is_parsed_and_is_json(value: Any) -> None:
    assert parse_json(dump_json(value)) == value
    assert json.loads(dump_json(value)) == value


def test_equal_objects_give_equal_bytes() -> None:
    assert dump_json({"b": 1, "a": [1.5, "é"]}) == dump_json({"a": [1.5, "é"], "b": 1})


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0eN-\\u', max_size=60).map(str.encode))
def test_any_bytes_are_parsed_or_value_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert json.loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"1" + b"0" * 400,
        b'{"a": 1, "a": 2}',
        b'"\\u001b[2J"',
        b'{"\\u0000": 1}',
        b'"\\ud800"',
        b'["\xc2\x9b"]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
        b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1),
        b"9" * 5000,
    ],
    ids=range(18),
)
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(data)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {1, 2}, {"a": object()}, b"bytes", {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dump_json(value)


@dataclass(frozen=True)
class Inner:
    ratio: float
    count: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    best: Inner | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    free: Any = None
    met: bool | None = None


@pytest.mark.parametrize(
    "value",
    [
        Outer("a"),
        Outer("a", (Inner(1), Inner(2.5, 3)), Inner(0.5), {"x": 1}, object(), True),
    ],
)
def test_fitting_values_pass(value: Outer) -> None:
    assert mismatch(value, Outer, "it") is None


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (Inner(1.0), "it "),
        (Outer(1), "it.name "),  # type: ignore[arg-type]  # on purpose, here and below
        (Outer("a", [Inner(1)]), "it.inner "),  # type: ignore[arg-type]
        (Outer("a", (Inner(1), Inner("x"))), "it.inner[1].ratio "),  # type: ignore[arg-type]
        (Outer("a", (Inner(1, True),)), "it.inner[0].count "),
        (Outer("a", (Inner(1, 2.0),)), "it.inner[0].count "),  # type: ignore[arg-type]
        (Outer("a", best=Outer("b")), "it.best "),  # type: ignore[arg-type]
        (Outer("a", sizes={"x": "1"}), "it.sizes['x'] "),  # type: ignore[dict-item]
        (Outer("a", sizes={1: 1}), "it.sizes "),  # type: ignore[dict-item]
        (Outer("a", sizes=[]), "it.sizes "),  # type: ignore[arg-type]
        (Outer("a", met=1), "it.met "),  # type: ignore[arg-type]
    ],
)
def test_a_mismatch_names_its_place(value: Any, where: str) -> None:
    fault = mismatch(value, Outer, "it")
    assert fault is not None
    assert fault.startswith(where)


@pytest.mark.parametrize(
    "value",
    [Outer("a"), Outer("a", (Inner(1), Inner(2.5, 3)), Inner(0.5), {"x": 1}, [{"any": None}], True)],
)
def test_what_a_dataclass_is_as_json_is_read_back(value: Outer) -> None:
    assert read(json.loads(json.dumps(dataclasses.asdict(value))), Outer, "it") == value
    assert read(dataclasses.asdict(value), Outer, "it") == value


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([], "it is a list, not an object"),
        ({}, "it has no name"),
        ({"name": "a", "nmae": 1}, "it has the unknown field 'nmae'"),
        ({"name": "a", "x" * 99: 1}, f"it has the unknown field '{'x' * 40}'"),
        ({"name": 1}, "it.name is a int, not a str"),
        ({"name": "a", "inner": "bc"}, "it.inner is a str, not a list"),
        ({"name": "a", "inner": {}}, "it.inner is a dict, not a list"),
        ({"name": "a", "inner": [{"ratio": 1}, {}]}, "it.inner[1] has no ratio"),
        ({"name": "a", "inner": [{"ratio": 1, "count": 1.0}]}, "it.inner[0].count is a float, not a int"),
        ({"name": "a", "best": {"ratio": None}}, "it.best.ratio is a NoneType, not a float"),
        ({"name": "a", "sizes": {"x": 1.5}}, "it.sizes['x'] is a float, not a int"),
        ({"name": "a", "met": 0}, "it.met is a int, not a bool"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(fault) + "$"):
        read(value, Outer, "it")


@given(st.text())
def test_one_line_is_short_and_printable(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 250
    assert line == line.strip()


def test_one_line_keeps_what_can_be_read() -> None:
    assert one_line(" two\n\nlines,\tand é ") == "two lines, and é"
    assert one_line(ValueError("\x1b[2Jgone")) == "[2Jgone"
    assert one_line("x" * 999) == "x" * 250
