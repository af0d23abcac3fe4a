"""Files that are damaged or made to harm: `read` answers with one line of BadInput, whatever they hold."""

import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.deploy import archive
from shoestring.deploy.shoe import Artifact, read

NPY = b"\x93NUMPY\x01\x00"
FILES = {"m.onnx": bytes(range(256)) * 2, "w.npy": NPY}
MANIFEST: dict[str, Any] = {
    "schema": 1,
    "preprocess": {
        "kind": "image",
        "resize": 8,
        "interpolation": "bilinear",
        "crop": [8, 8],
        "mean": [127, 127, 127],
        "std": [128, 128, 128],
    },
    "labels": ["cat", "dog"],
    "points": [
        {
            "onnx": "m.onnx",
            "weights": {
                "w": {"member": "w.npy", "slice": [[0, 1]]},
                "v": {"member": "w.npy", "slice": [[0, 1]], "bits": 4, "shift": 3, "shape": [2]},
            },
            "scales": {"s": "w.npy"},
            "bias": {},
            "measured": {"ms": 1.0},
        },
        {"onnx": "m.onnx", "after": 0, "confidence": {"temperature": 1.5, "threshold": 0.9}},
    ],
    "provenance": {"seed": 0},
}
RECEIPT: dict[str, Any] = {
    "schema": 1,
    "device": {"threads": 1},
    "subject": {"file": "x", "runtime": "openvino", "latency_ms": 1.0, "size_bytes": 9},
    "baselines": [{"name": "fp32", "runtime": "openvino", "latency_ms": 2.0, "size_bytes": 9}],
    "speedup": [{"against": "fp32", "ratio": 2.0, "low": 1.9, "high": 2.1, "split": {"runtime": 1.0}}],
    "quality": {
        "metric": "top-1",
        "unit": "pt",
        "original": 90.0,
        "subject": 90.0,
        "difference": 0.0,
        "low": -0.1,
        "high": 0.1,
        "n": 500,
    },
    "budget": [{"limit": "latency", "asked": 2.0, "got": 1.0, "unit": "ms", "met": True}],
    "verdict": "holds",
    "layers": [{"name": "stem", "original_ms": 1.0, "subject_ms": 0.5}],
    "notes": ["random weights"],
}


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def forged(manifest: Any = MANIFEST, files: Mapping[str, bytes] = FILES, receipt: Any = RECEIPT) -> bytes:
    """A `.shoe` by hand with correct hashes, whatever it says."""
    files = {**files, "receipt.json": json.dumps(receipt).encode()}
    if isinstance(manifest, dict):
        entries = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
        }
        manifest = {"members": entries, **manifest}
    return zipped({"manifest.json": json.dumps(manifest).encode(), **files})


def attempt(path: Path, data: bytes) -> Artifact | None:
    """What `read` makes of `data`; None when it is refused as it should be."""
    path.write_bytes(data)
    try:
        return read(path)
    except BadInput as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        assert str(error).isprintable()
        return None


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "x.shoe"


def refused(path: Path, data: bytes, why: str) -> None:
    path.write_bytes(data)
    with pytest.raises(BadInput, match=why):
        read(path)
    assert attempt(path, data) is None


def test_the_forgery_itself_is_read(path: Path) -> None:
    artifact = attempt(path, forged())
    assert artifact is not None
    assert artifact.members == FILES
    assert artifact.receipt is not None
    assert artifact.receipt.speedup[0].ratio == 2.0


def test_truncated_at_every_percent(path: Path) -> None:
    data = forged()
    for percent in range(100):
        assert attempt(path, data[: len(data) * percent // 100]) is None, percent
    assert attempt(path, data[:-1]) is None


def test_every_flipped_bit_is_refused_or_harmless(path: Path) -> None:
    """Some bits of a zip say nothing (dates, versions, padding); then what is read is exactly what was written."""
    data = forged()
    whole = attempt(path, data)
    results = []
    for bit in range(0, 8 * len(data), 19):  # shares no factor with 8: every bit of a byte comes up
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        results.append(attempt(path, bytes(flipped)))
    assert all(result in (None, whole) for result in results)
    assert results.count(None) > 0.7 * len(results)


@given(st.data())
def test_any_edit_of_bytes(path: Path, data: st.DataObject) -> None:
    blob = bytearray(forged())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(blob)))
        stop = min(len(blob), start + data.draw(st.integers(0, 40)))
        blob[start:stop] = data.draw(st.binary(max_size=40))
    got = attempt(path, bytes(blob))
    assert got is None or got.members == FILES


@given(st.binary(max_size=400))
def test_any_bytes(path: Path, data: bytes) -> None:
    assert attempt(path, data) is None


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["m.onnx", "w.npy"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, route: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The routes to every value inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [route, *(inner for key, item in items for inner in places(item, (*route, key)))]


def replaced(value: Any, route: tuple[Any, ...], new: Any) -> Any:
    if not route:
        return new
    value = copy.deepcopy(value)
    spot = value
    for key in route[:-1]:
        spot = spot[key]
    spot[route[-1]] = new
    return value


ENTRY = {"members": {"m.onnx": {"sha256": "0" * 64, "size": 3}}}


@given(st.sampled_from(places({**MANIFEST, **ENTRY})), PLAIN)
def test_any_value_anywhere_in_the_manifest(path: Path, route: tuple[Any, ...], value: Any) -> None:
    whole = {**MANIFEST, **ENTRY} if route[:1] == ("members",) else MANIFEST
    attempt(path, forged(replaced(whole, route, value)))


@pytest.mark.parametrize("value", [None, True, -1, 1.5, "text", [], {}, [None], {"a": None}, [[]]], ids=range(10))
def test_wrong_types_everywhere(path: Path, value: Any) -> None:
    """`attempt` fails on any exception that is not BadInput; what is accepted can be rendered again."""
    for route in places(MANIFEST):
        attempt(path, forged(replaced(MANIFEST, route, value)))
    for route in places(RECEIPT):
        got = attempt(path, forged(receipt=replaced(RECEIPT, route, value)))
        if got is not None and got.receipt is not None:
            assert all(isinstance(speedup.ratio, int | float) for speedup in got.receipt.speedup)


def packed(keys: dict[str, Any]) -> dict[str, Any]:
    """A point whose tensor v has these keys beside its member and slice."""
    return {"points": [{"onnx": "m.onnx", "weights": {"v": {"member": "w.npy", "slice": [[0, 1]], **keys}}}]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": 2}, r"schema 2 is unknown, this version reads 1; update shoestring"),
        ({"schema": True}, "schema True is unknown"),
        ({"schema": 1.0}, "schema 1.0 is unknown"),
        ({"schema": ["x" * 5000]}, "schema .* is unknown"),
        ({"extra": 1}, "exactly the keys"),
        ({"labels": ["cat", 3]}, r"labels\[1\] is a int"),
        ({"labels": "cat"}, "labels is a str"),
        ({"labels": ["\x1b]0;owned\x07"]}, "control characters"),
        ({"points": []}, "no operating point"),
        ({"points": [{"weights": {}}]}, "a point is not"),
        ({"points": [{"onnx": "m.onnx", "hidden": 1}]}, "a point is not"),
        ({"points": [{"onnx": "../m.onnx"}]}, "which is not there"),
        ({"points": [{"onnx": "m.onnx", "after": 3}]}, "point 0 goes on after point 3"),
        ({"points": [{"onnx": "m.onnx", "after": 10**300}]}, "point 0 goes on after point"),
        ({"points": [{"onnx": "m.onnx", "after": 10**400}]}, "a number is out of range"),
        ({"points": [{"onnx": "m.onnx", "after": 0.0}]}, "point.after is a float"),
        ({"points": [{"onnx": "m.onnx", "confidence": {"t": 1}}]}, "exactly the keys temperature, threshold"),
        ({"points": [{"onnx": "m.onnx", "confidence": {"temperature": 1e-320, "threshold": 1}}]}, "temperature"),
        ({"points": [{"onnx": "m.onnx", "confidence": {"temperature": 1e300, "threshold": 1}}]}, "temperature"),
        ({"points": [{"onnx": "m.onnx"}] * 65}, "65 operating points; a file has 64 at most"),
        (packed({"bits": 4}), "weights of 'v' are not"),
        (packed({"bits": 4, "shape": [2]}), "weights of 'v' are not"),
        (packed({"bits": 4, "shape": [2], "shift": 1.5}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": 4.0, "shift": 0, "shape": [2]}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": True, "shift": 0, "shape": [2]}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": 4, "shift": 0, "shape": [True]}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": 4, "shift": 0, "shape": [1] * 9}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": 4, "shift": 0, "shape": "22"}), "bits, shift and shape of 'v' are not"),
        (packed({"bits": 4, "shape": [2], "axis": 0, "shift": 0, "more": 1}), "weights of 'v' are not"),
        (packed({"bits": 4, "shape": [2], "part": [[0, 1]]}), "weights of 'v' are not"),
        (packed({"part": [[0, 1]]}), "weights of 'v' are not"),
        (packed({"bits": 4, "shape": [2], "shift": 0, "part": [[0, 1.5]]}), "the slice of 'v' is not a list"),
        (packed({"bits": 4, "shape": [2], "shift": 0, "part": 3}), "the slice of 'v' is not a list"),
        ({"provenance": {"loss": float("nan")}}, "NaN is not JSON"),
        ({"preprocess": {**MANIFEST["preprocess"], "crop": [10**9, 10**9]}}, "crop"),
        ({"members": {}}, "'m.onnx' is not in the manifest"),
        ({"members": []}, "members is a list"),
    ],
)
def test_wrong_manifests_are_refused(path: Path, change: dict[str, Any], why: str) -> None:
    refused(path, forged({**MANIFEST, **change}), why)


@pytest.mark.parametrize("manifest", [None, [], "text", 1, {}, {"schema": None}])
def test_manifests_that_are_none(path: Path, manifest: Any) -> None:
    refused(path, forged(manifest), "schema .* is unknown")


def test_wrong_hash_missing_and_extra_members(path: Path) -> None:
    entries = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in FILES.items()}
    manifest = json.dumps({**MANIFEST, "members": entries}).encode()
    assert attempt(path, zipped({"manifest.json": manifest, **FILES})) is not None
    changed = {**FILES, "m.onnx": FILES["m.onnx"][:-1] + b"x"}
    refused(path, zipped({"manifest.json": manifest, **changed}), "m.onnx does not match its size and SHA-256")
    refused(path, zipped({"manifest.json": manifest, "m.onnx": FILES["m.onnx"]}), "'w.npy' is missing")
    refused(path, zipped({"manifest.json": manifest, **FILES, "z": b""}), "'z' is not in the manifest")
    refused(path, zipped(FILES), "it has no manifest.json")


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"[" * 200_000, "nested deeper"),
        (b'{"schema":1,"provenance":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper"),
        (b'{"schema": 1, "schema": 1}', "given twice"),
        (b"\xff\xfe", "not plain JSON"),
        (b" " * (2**22 + 1), "declares 4194305 bytes"),
        (b"9" * 5000, "not plain JSON"),
    ],
    ids=range(6),
)
def test_hostile_json(path: Path, manifest: bytes, why: str) -> None:
    refused(path, zipped({"manifest.json": manifest, **FILES}), why)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:\\x", "a\nb", "\x1b[2J", "evil\u202e"])
def test_traversal_and_odd_names(path: Path, name: str) -> None:
    refused(path, forged(files={**FILES, name: b"x"}), "member name")


def test_a_zip_bomb_is_refused_before_it_is_inflated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)

    def never(*_: Any) -> bytes:
        raise AssertionError("inflated")

    monkeypatch.setattr(archive, "_inflate", never)
    refused(path, forged(files={**FILES, "bomb": bytes(2**20 + 1)}), "bomb declares 1048577 bytes")
    refused(path, forged(files={**FILES, "a": bytes(2**19), "b": bytes(2**19)}), "together")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent.shoe", Path("/dev/zero")):
        with pytest.raises(BadInput, match=str(place)):
            read(place)
