"""The capability contract: every entry can be looked up, and applies to the processors it speaks of."""

import re
from collections import Counter
from pathlib import Path

import pytest

from shoestring.core.contract import CONTRACT, capabilities
from shoestring.core.device import NO_EFFECT, REFUSED, RUNS, SLOWER, STORED_ONLY, WRONG, Capability
from shoestring.measure.machine import isa_of

ROOT = Path(__file__).parents[2]
STOCK = ("onnxruntime", "openvino")
RUNTIMES = (*STOCK, "engine")
AVX2 = ("sse4.2", "avx2")
AVX_VNNI = (*AVX2, "avx_vnni")
AVX512 = (*AVX2, "avx512f")
VNNI = (*AVX512, "avx512_vnni")
ARM = ("neon", "asimddp", "i8mm")
FULL_RANGE = "u8 x s8 full range"


def name(entry: Capability) -> str:
    return f"{entry.runtime}, {entry.feature}"


def features(runtime: str, isa: tuple[str, ...]) -> dict[str, str]:
    """What the contract says there: feature to verdict."""
    return {entry.feature: entry.verdict for entry in capabilities(runtime, isa)}


@pytest.mark.parametrize("entry", CONTRACT, ids=name)
def test_every_entry_says_what_and_whence(entry: Capability) -> None:
    assert entry.runtime in RUNTIMES
    assert entry.verdict in (RUNS, NO_EFFECT, STORED_ONLY, SLOWER, WRONG, REFUSED)
    for text in (entry.feature, entry.note, entry.source):
        assert text == text.strip()
        assert text
        assert text.isprintable()
    assert not set(entry.needs) & set(entry.lacks)


@pytest.mark.parametrize("entry", CONTRACT, ids=name)
def test_every_entry_names_instruction_sets_that_are_reported(entry: Capability) -> None:
    for isa in (*entry.needs, *entry.lacks):
        assert isa_of(f"flags : {isa}") == (isa,)


@pytest.mark.parametrize("entry", CONTRACT, ids=name)
def test_every_file_that_is_a_source_exists(entry: Capability) -> None:
    files = re.findall(r"(?:benchmarks|tests|docs)/[\w/.]*\w", entry.source)
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_a_feature_has_one_answer_a_runtime() -> None:
    assert Counter(map(name, CONTRACT)).most_common(1)[0][1] == 1


@pytest.mark.parametrize("runtime", STOCK)
@pytest.mark.parametrize(
    ("isa", "wrong"),
    [
        (AVX2, True),
        (AVX512, True),
        (VNNI, False),
        (AVX_VNNI, False),
        ((*VNNI, "amx_int8"), False),
        (ARM, False),
        ((), False),
    ],
    ids=["avx2", "avx512", "avx512-vnni", "avx-vnni", "amx", "arm", "unknown"],
)
def test_products_saturate_on_x86_without_vnni(runtime: str, isa: tuple[str, ...], wrong: bool) -> None:
    assert features(runtime, isa).get(FULL_RANGE) == (WRONG if wrong else None)


def test_signed_activations_are_judged_where_they_were_measured() -> None:
    found = {isa: features("onnxruntime", isa).get("signed activations") for isa in (AVX2, VNNI, ARM)}
    assert found == {AVX2: SLOWER, VNNI: None, ARM: None}


def test_bf16_runs_where_the_processor_has_it() -> None:
    for isa in ((*VNNI, "avx512_bf16"), (*VNNI, "amx_bf16")):
        assert features("openvino", isa)["bf16"] == RUNS
        assert "bf16" not in features("onnxruntime", isa)
    assert "bf16" not in features("openvino", VNNI)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("isa", [AVX2, VNNI, ARM, ()], ids=["avx2", "vnni", "arm", "unknown"])
def test_what_every_processor_is_told(runtime: str, isa: tuple[str, ...]) -> None:
    told = features(runtime, isa)
    assert told["conv int8"] == RUNS
    assert told["unstructured zeros"] == (RUNS if runtime == "engine" else NO_EFFECT)
    assert told["N:M zeros"] == (RUNS if runtime == "engine" else NO_EFFECT)
    assert told["block zeros"] == (RUNS if runtime == "engine" else NO_EFFECT)
    assert told["conv below 8 bits"] == STORED_ONLY


@pytest.mark.parametrize("isa", [AVX2, VNNI, ARM, ()], ids=["avx2", "vnni", "arm", "unknown"])
def test_our_engine_is_exact_everywhere_and_takes_no_floats(isa: tuple[str, ...]) -> None:
    told = features("engine", isa)
    assert (told[FULL_RANGE], told["linear 4 bits"], told["float layers"]) == (RUNS, RUNS, REFUSED)


def test_entries_come_in_the_order_of_the_contract_and_from_any_iterable() -> None:
    found = capabilities("onnxruntime", (part for part in VNNI))
    assert found == capabilities("onnxruntime", [*VNNI]) == tuple(e for e in CONTRACT if e in found)
    assert {entry.runtime for entry in found} == {"onnxruntime"}
    assert capabilities("abacus", VNNI) == ()
