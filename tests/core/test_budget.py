"""Budget: what is read, how it is spelt, and one clear line for everything else."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shoestring.core.budget import Budget, Limit
from shoestring.core.errors import BadInput

UNITS = {
    "latency": {"us": 1e-3, "ms": 1, "s": 1e3},
    "size": {"B": 1, "kB": 1e3, "MB": 1e6},
    "memory": {"kB": 1e-3, "MB": 1, "GB": 1e3},
}
POSITIVE = st.floats(1e-9, 1e15)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("latency<=2ms", Limit("latency", "<=", 2, "ms")),
        ("latency<=500us", Limit("latency", "<=", 0.5, "ms")),
        ("latency<=1.5s", Limit("latency", "<=", 1500, "ms")),
        ("latency<=0.5x", Limit("latency", "<=", 0.5, "x")),
        ("size<=900B", Limit("size", "<=", 900, "B")),
        ("size<=300kB", Limit("size", "<=", 300_000, "B")),
        ("size<=4MB", Limit("size", "<=", 4_000_000, "B")),
        ("size<=.25x", Limit("size", "<=", 0.25, "x")),
        ("memory<=30MB", Limit("memory", "<=", 30, "MB")),
        ("memory<=1e3kB", Limit("memory", "<=", 1, "MB")),
        ("memory<=2GB", Limit("memory", "<=", 2000, "MB")),
        ("quality>=-1pt", Limit("quality", ">=", -1, "pt")),
        ("quality>=+0.5pt", Limit("quality", ">=", 0.5, "pt")),
        ("quality>=0pt", Limit("quality", ">=", 0, "pt")),
        ("  latency <= 2 ms ", Limit("latency", "<=", 2, "ms")),
        ("latency=0.5ms..3ms", Limit("latency", "<=", 0.5, "ms", 3)),
        ("latency=500us .. 3ms", Limit("latency", "<=", 0.5, "ms", 3)),
        ("latency=1x..2x", Limit("latency", "<=", 1, "x", 2)),
        ("quality=-3pt..-1pt", Limit("quality", ">=", -3, "pt", -1)),
        ("micronet<=0.3", Limit("micronet", "<=", 0.3, "")),
        ("micronet=.2..0.3", Limit("micronet", "<=", 0.2, "", 0.3)),
    ],
)
def test_a_limit_is_read_in_its_base_unit(text: str, limit: Limit) -> None:
    assert Budget.parse(text).limits == (limit,)


def test_limits_keep_their_order_and_are_found_by_name() -> None:
    budget = Budget.parse("size<=4MB, latency<=0.5x,quality>=-1pt,")
    assert [limit.name for limit in budget.limits] == ["size", "latency", "quality"]
    assert [limit.relative for limit in budget.limits] == [False, True, False]
    assert budget.get("latency") == budget.limits[1]
    assert budget.get("memory") is None
    assert Budget.parse("") == Budget.parse(" , ") == Budget.of() == Budget.of("") == Budget()


@pytest.mark.parametrize(
    "text",
    [
        "latency<=2ms, size<=4MB, memory<=30MB, quality>=-1pt",
        "latency<=0.5x, size<=4.1MB, memory<=2GB",
        "latency=0.5ms..3ms, size<=1234567B",
        "quality>=0.25pt",
        "micronet<=0.297",
        "micronet=0.2..0.3",
    ],
)
def test_a_budget_is_spelt_as_a_person_would(text: str) -> None:
    assert str(Budget.parse(text)) == text


@given(st.sampled_from(sorted(UNITS)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from([*UNITS[name]]))))
def test_units_are_factors(choice: tuple[str, str]) -> None:
    name, unit = choice
    (limit,) = Budget.parse(f"{name}<=7{unit}").limits
    assert limit.value == pytest.approx(7 * UNITS[name][unit], rel=1e-15)
    assert (limit.unit, limit.upper) == (next(u for u, factor in UNITS[name].items() if factor == 1), None)


@given(st.data())
def test_spelling_and_reading_are_inverse(data: st.DataObject) -> None:
    """Whatever the number: a claim that is read back from a file must be the claim that was made."""
    limits = []
    for name in data.draw(st.lists(st.sampled_from([*UNITS, "quality"]), unique=True)):
        values = st.floats(-1e6, 1e6) if name == "quality" else POSITIVE
        low, high = data.draw(values), data.draw(st.none() | values)
        assume(high is None or low < high)
        base = "pt" if name == "quality" else next(unit for unit, factor in UNITS[name].items() if factor == 1)
        unit = base if name == "quality" else data.draw(st.sampled_from([base, "x"]))
        limits.append(Limit(name, ">=" if name == "quality" else "<=", low, unit, high))
    budget = Budget(tuple(limits))
    assert Budget.parse(str(budget)) == budget


@given(st.sampled_from(sorted(UNITS)), st.decimals("0.001", 1_000_000, places=3), st.data())
def test_a_spelling_is_no_longer_than_what_was_written(name: str, value: Decimal, data: st.DataObject) -> None:
    text = f"{name}<={value}{data.draw(st.sampled_from([*UNITS[name], 'x']))}"
    assert len(str(Budget.parse(text))) <= len(text)


def test_the_twins_say_the_same() -> None:
    text = Budget.parse("latency<=2ms, size<=4MB, memory<=0.5x, quality>=-1pt")
    assert Budget.of(latency="2ms", size="4MB", memory="0.5x", lose="1pt") == text
    assert Budget.of("latency<=2ms, size<=4MB", memory="0.5x", lose="-1pt") == text
    assert Budget.of("latency<=2ms, size<=4MB", memory=" .5x ", lose=" +1 pt") == text


REFUSED = [
    ("energy<=3mJ", "energy cannot be limited here: no energy meter is read on this machine; limit latency, size"),
    ("energy=1..2", "energy cannot be limited here"),
    ("micronet<=0.3MB", "micronet is given without a unit, got '0.3MB'"),
    ("micronet<=0.3x", "micronet is given without a unit, got '0.3x'"),
    ("micronet<=0", "micronet must be above zero"),
    ("micronet>=0.3", "micronet is limited by <=, not >=; write micronet<=0.3"),
    ("speed>=2x", "unknown limit 'speed'; known are latency, size, memory, quality, micronet"),
    ("latency>=2ms", "latency is limited by <=, not >=; write latency<=2ms"),
    ("latency=2ms", "latency is limited by <=, not =; write latency<=2ms"),
    ("quality<=1pt", "quality is limited by >=, not <=; write quality>=1pt"),
    ("latency<=2ms,latency<=3ms", "latency is limited twice; keep one"),
    ("latency<=2", "latency is given in ms, us, s, x, got '2'"),
    ("size<=4GiB", "size is given in B, kB, MB, x, got '4GiB'"),
    ("memory<=4B", "memory is given in MB, kB, GB, x, got '4B'"),
    ("quality>=-0.5x", "quality is given in pt, got '-0.5x'"),
    ("latency<=0ms", "latency must be above zero, got '0ms'"),
    ("size<=-4MB", "size must be above zero, got '-4MB'"),
    ("latency<=1e-999ms", "latency must be above zero"),
    ("latency=0ms..3ms", "latency must be above zero, got '0ms'"),
    ("latency=-1ms..3ms", "latency must be above zero, got '-1ms'"),
    ("latency<=1e999ms", "1e999ms is no finite number; leave latency out"),
    ("size<=1e308MB", "no finite number"),
    ("quality>=-1e999pt", "no finite number"),
    ("latency=3ms..0.5ms", "'latency=3ms..0.5ms' is not a rising range in one unit"),
    ("latency=1ms..1ms", "not a rising range"),
    ("latency=0.5x..3ms", "not a rising range in one unit"),
    ("latency=0.5..3ms", "got '0.5'"),
    ("latency<=0.5ms..3ms", "a front is written with =, not <=; write latency=0.5ms..3ms"),
    ("latency<=1ms ..\n 3ms", "write latency=1ms..3ms"),
    ("latency", "cannot read 'latency'; write for example"),
    ("latency<2ms", "cannot read"),
    ("latency<=twoms", "cannot read"),
    ("latency<=nanms", "cannot read"),
    ("latency<=infms", "cannot read"),
    ("Latency<=2ms", "cannot read"),
    ("latency<=2ms size<=4MB", "cannot read"),
    ("latency<=2ms\nsize<=4MB", "cannot read"),
    ("<=2ms", "cannot read"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_each_refusal_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)) as caught:
        Budget.parse(text)
    assert str(caught.value).startswith("budget: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("twins", "words"),
    [
        ({"text": "latency<=1ms", "latency": "2ms"}, "latency is limited twice"),
        ({"text": "quality>=-1pt", "lose": "1pt"}, "quality is limited twice"),
        ({"latency": "2"}, "given in ms"),
        ({"latency": ""}, "cannot read 'latency<='"),
        ({"latency": "2ms, size<=3MB"}, "cannot read"),
        ({"latency": "<=2ms"}, "cannot read"),
        ({"latency": "1ms..2ms"}, "write latency=1ms..2ms"),
        ({"lose": ""}, "cannot read 'quality>=-'"),
        ({"lose": "1%"}, "cannot read"),
    ],
)
def test_twins_are_refused_alike(twins: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=f"^budget: .*{re.escape(words)}"):
        Budget.of(**twins)


def test_a_budget_made_by_hand_is_refused_alike() -> None:
    limit = Limit("size", "<=", 1.0, "x")
    with pytest.raises(BadInput, match="size is limited twice"):
        Budget((limit, limit))


TERMS = st.sampled_from(
    ["latency", "size", "quality", "energy", "<=", ">=", "=", "..", "ms", "x", "pt", ",", "1", "-2.5", "\n"]
)


@given(st.text(max_size=30) | st.lists(TERMS, max_size=8).map("".join))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except BadInput as error:
        assert str(error).isprintable()
    else:
        assert Budget.parse(str(budget)) == budget


@given(st.floats(), st.floats(allow_nan=False))
def test_limits_hold_up_to_themselves(got: float, value: float) -> None:
    assert Limit("latency", "<=", value, "ms").holds(got) == (got <= value)
    assert Limit("quality", ">=", value, "pt").holds(got) == (got >= value)
