"""Device: which entries apply, and a fingerprint that changes with what it is made of."""

import dataclasses
import itertools
import json
import string

import pytest

from shoestring.core.device import RUNS, WRONG, Capability, Device

ENTRY = Capability("onnxruntime", "conv int8", RUNS, "runs", "measured")
DEVICE = Device("Some CPU @ 2 GHz", ("avx2", "avx512f"), 8, 2, "onnxruntime", "1.32.0", (ENTRY,))


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [part for size in range(len(names) + 1) for part in itertools.combinations(names, size)]


def test_an_entry_needs_one_and_lacks_all() -> None:
    """All ways to need, to lack and to have three instruction sets."""
    sets = subsets(("a", "b", "c"))
    for needs, lacks, isa in itertools.product(sets, sets, sets):
        entry = Capability("r", "f", WRONG, "note", "source", needs, lacks)
        some_needed = len(needs) == 0 or len([n for n in needs if n in isa]) > 0
        none_lacked = len([n for n in lacks if n in isa]) == 0
        assert entry.applies(isa) is (some_needed and none_lacked)


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "Some CPU @ 3 GHz"},
        {"isa": ("avx2",)},
        {"isa": ()},
        {"isa": ("avx2", "avx512f", "avx512_vnni")},
        {"cores": 4},
        {"threads": 1},
        {"cores": 2, "threads": 8},
        {"runtime": "openvino"},
        {"version": "1.32.1"},
    ],
)
def test_the_fingerprint_changes_with_each_ingredient(change: dict[str, object]) -> None:
    changed = dataclasses.replace(DEVICE, **change)  # type: ignore[arg-type]  # any of the fields
    assert changed.fingerprint != DEVICE.fingerprint


def test_the_fingerprint_depends_on_nothing_else() -> None:
    """Not on the process either, or no cached table would be found again: hence the figure."""
    assert dataclasses.replace(DEVICE, capabilities=()).fingerprint == DEVICE.fingerprint == "8a0c714220b7"
    assert set(DEVICE.fingerprint) <= set(string.hexdigits)


def test_texts_do_not_run_into_each_other() -> None:
    one = dataclasses.replace(DEVICE, processor="a', ('b',), 8", isa=())
    other = dataclasses.replace(DEVICE, processor="a", isa=("b",))
    assert one.fingerprint != other.fingerprint


def test_the_verdict_on_a_feature() -> None:
    assert DEVICE.verdict("conv int8") is ENTRY
    assert DEVICE.verdict("levitation") is None


def test_json_holds_every_field() -> None:
    data = json.loads(json.dumps(DEVICE.to_json()))
    assert data.pop("fingerprint") == DEVICE.fingerprint
    (entry,) = data.pop("capabilities")
    assert Capability(**{**entry, "needs": tuple(entry["needs"]), "lacks": tuple(entry["lacks"])}) == ENTRY
    assert data == {
        "processor": "Some CPU @ 2 GHz",
        "isa": ["avx2", "avx512f"],
        "cores": 8,
        "threads": 2,
        "runtime": "onnxruntime",
        "version": "1.32.0",
    }
