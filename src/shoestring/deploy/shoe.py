"""The `.shoe` file: an artifact as a zip with a manifest, ONNX graphs, tensors and the receipt. No pickle.

    manifest.json   {"schema": 1, "preprocess": {...}, "labels": [...], "points": [...], "provenance": {...},
                     "members": {name: {"sha256": ..., "size": ...}}}     every other member, and nothing else
    receipt.json    core.receipt.Receipt, when it has been measured
    *.onnx, *.npy   the members

A file may come from a stranger: `read` refuses with one line what `write` would not have written. It does not look into
the graphs; `deploy.check` does, before a runtime sees them.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Ladder, Point
from shoestring.core.receipt import FAILS, HOLDS, NOISY, Receipt
from shoestring.core.schema import dump_json, mismatch, one_line, parse_json
from shoestring.deploy.archive import pack, read_file, unpack, write_file
from shoestring.deploy.materialise import materialise
from shoestring.deploy.preprocess import check_spec

SCHEMA = 1
MAX_POINTS = 64  # each is a session of its own when all are opened
TEMPERATURES = (1e-3, 1e3)
MANIFEST, RECEIPT, ORIGINAL = "manifest.json", "receipt.json", "original.onnx"
_MAX_JSON = 2**22  # bytes of a manifest or a receipt
_SHARED = {"member", "slice"}
_PACKED = _SHARED | {"bits", "shift", "shape"}
_WEIGHTS = (_SHARED, _PACKED, _PACKED | {"part"})  # what may be said of a point's weight
_KEYS = {"schema", "preprocess", "labels", "points", "provenance", "members"}


@dataclass(frozen=True)
class Contents:
    """What goes into a file. `preprocess`: the spec of `deploy.preprocess`; `labels`: class names, or none; `points`:
    the ladder, at least one; `members`: name to bytes of ONNX graphs and tensors; `provenance`: methods, settings,
    seeds, versions, data hash as plain JSON (lists, not tuples)."""

    preprocess: Mapping[str, Any]
    labels: tuple[str, ...]
    points: Ladder
    members: Mapping[str, bytes]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Artifact(Contents):
    """The contents of the file that was read from `file`."""

    file: str = ""

    def onnx(self, point: int = 0) -> bytes:
        """The serialised ONNX model of one operating point, shared weights filled in. Raises BadInput when there is no
        such point or its tensors do not fit."""
        if not 0 <= point < len(self.points):
            raise BadInput(f"{self.file}: there is no point {point}; it has {len(self.points)}, counted from 0")
        try:
            return materialise(self.points[point], self.members)
        except ValueError as error:
            raise BadInput(f"{self.file}: point {point}: {one_line(error)}") from None

    @property
    def original(self) -> bytes | None:
        """The original network's graph without its weights, from which baselines are measured again; None without."""
        return self.members.get(ORIGINAL)


def write(path: str | Path, contents: Contents) -> None:
    """Writes a `.shoe` atomically; equal contents give equal bytes. Raises BadInput, and writes nothing, when `read`
    would refuse the file or the place cannot be written."""
    try:
        data = _encode(contents)
        _decode(data, str(path))
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path}: cannot be written: {one_line(error)}") from None
    write_file(path, data)


def read(path: str | Path) -> Artifact:
    """Reads a `.shoe`. Raises BadInput, in one line naming the file, on everything that `write` did not write so."""
    data = read_file(path)
    try:
        return _decode(data, str(path))
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path}: {one_line(error)}") from None


def require_writable(path: str | Path) -> None:
    """Raises BadInput when `path` cannot be written, before hours are spent on what is to go there."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise BadInput(f"{path}: is a folder; name a file, for example {Path(path) / 'model.shoe'}")
    if not folder.is_dir():
        raise BadInput(f"{path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{path}: {folder} cannot be written to")


def size(contents: Contents) -> int:
    """Bytes of the file without what was measured of it (the receipt, the points' figures), so that a limit on size
    is judged on the same number before and after. Raises BadInput like `write`."""
    points = tuple(replace(point, measured={}) for point in contents.points)
    bare = Contents(contents.preprocess, contents.labels, points, contents.members, contents.provenance)
    try:
        return len(_encode(bare))
    except ValueError as error:
        raise BadInput(f"the contents cannot be written: {error}") from None


def _encode(contents: Contents) -> bytes:
    _check(contents)
    if reserved := {MANIFEST, RECEIPT} & set(contents.members):
        raise ValueError(f"the member name {reserved.pop()} is reserved")
    files = {name: contents.members[name] for name in sorted(contents.members)}
    if contents.receipt is not None:
        files[RECEIPT] = dump_json(contents.receipt.to_json())
    manifest = {
        "schema": SCHEMA,
        "preprocess": dict(contents.preprocess),
        "labels": list(contents.labels),
        "points": [point.to_json() for point in contents.points],
        "provenance": dict(contents.provenance),
        "members": {name: _entry(data) for name, data in files.items()},
    }
    return pack({MANIFEST: dump_json(manifest), **files})


def _decode(data: bytes, file: str) -> Artifact:
    files = unpack(data, {MANIFEST: _MAX_JSON, RECEIPT: _MAX_JSON})
    if MANIFEST not in files:
        raise ValueError(f"not a .shoe file: it has no {MANIFEST}")
    manifest = _json(files.pop(MANIFEST), MANIFEST)
    _check_manifest(manifest)
    _check_hashes(manifest["members"], files)
    receipt = files.pop(RECEIPT, None)
    artifact = Artifact(
        preprocess=manifest["preprocess"],
        labels=tuple(manifest["labels"]),
        points=tuple(_point(item) for item in manifest["points"]),
        members=files,
        provenance=manifest["provenance"],
        receipt=None if receipt is None else Receipt.from_json(_json(receipt, RECEIPT)),
        file=file,
    )
    _check(artifact)
    return artifact


def _json(data: bytes, name: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{name} is not plain JSON ({error})") from None


def _entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _check_manifest(manifest: Any) -> None:
    """The outermost layer; `_check` looks at the rest once it has its types."""
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int or schema != SCHEMA:
        raise ValueError(f"schema {repr(schema)[:40]} is unknown, this version reads {SCHEMA}; update shoestring")
    if set(manifest) != _KEYS:
        raise ValueError(f"{MANIFEST} must have exactly the keys {', '.join(sorted(_KEYS))}")
    for name, kind in (("members", dict), ("labels", list), ("points", list)):
        if not isinstance(manifest[name], kind):
            raise ValueError(f"{MANIFEST}: {name} is a {type(manifest[name]).__name__}")


def _check_hashes(entries: dict[str, Any], files: Mapping[str, bytes]) -> None:
    if set(entries) != set(files):
        odd = min(set(entries) ^ set(files))
        raise ValueError(f"member {odd[:60]!r} is {'not in the manifest' if odd in files else 'missing'}")
    for name, data in files.items():
        if entries[name] != _entry(data):
            raise ValueError(f"member {name} does not match its size and SHA-256 in the manifest; get the file again")


def _point(item: Any) -> Point:
    if not isinstance(item, dict) or "onnx" not in item or not set(item) <= set(Point.__dataclass_fields__):
        raise ValueError(f"{MANIFEST}: a point is not an object with the keys {', '.join(Point.__dataclass_fields__)}")
    return Point.from_json(item)


def _check(contents: Contents) -> None:
    """Types, then references. Raises ValueError, or BadInput about the preprocessing."""
    fault = mismatch(contents, Contents, "contents")
    if fault is not None:
        raise ValueError(fault)
    check_spec(contents.preprocess)
    if any("\n" in label for label in contents.labels):
        raise ValueError("a label has more than one line")
    if not contents.points:
        raise ValueError("there is no operating point")
    if len(contents.points) > MAX_POINTS:
        raise ValueError(f"{len(contents.points)} operating points; a file has {MAX_POINTS} at most")
    for index, point in enumerate(contents.points):
        _check_references(point, contents.members)
        _check_exits(point, index)
    if contents.receipt is not None and contents.receipt.verdict not in (HOLDS, FAILS, NOISY):
        raise ValueError("the receipt's verdict is unknown")


def _check_references(point: Point, members: Mapping[str, bytes]) -> None:
    for tensor, part in point.weights.items():
        if not isinstance(part, Mapping) or set(part) not in _WEIGHTS or not isinstance(part["member"], str):
            raise ValueError(f'weights of {tensor[:60]!r} are not {{"member": ..., "slice": ...}}')
        for ranges in (part["slice"], part.get("part", ())):
            if not isinstance(ranges, list | tuple) or not all(map(_is_range, ranges)):
                raise ValueError(f"the slice of {tensor[:60]!r} is not a list of [start, stop]")
        if "bits" in part and not (type(part["bits"]) is type(part["shift"]) is int and _is_shape(part["shape"])):
            raise ValueError(f"bits, shift and shape of {tensor[:60]!r} are not two numbers and a list of numbers")
    shared = [part["member"] for part in point.weights.values()]
    for name in (point.onnx, *shared, *point.scales.values(), *point.bias.values()):
        if name not in members:
            raise ValueError(f"a point names the member {name[:60]!r}, which is not there")


def _check_exits(point: Point, index: int) -> None:
    """What it goes on from, and when its answer is final."""
    if point.after is not None and not 0 <= point.after < index:
        raise ValueError(f"point {index} goes on after point {point.after}; name an earlier one")
    given = point.confidence
    if given and set(given) != {"temperature", "threshold"}:
        raise ValueError(f"the confidence of point {index} must have exactly the keys temperature, threshold")
    low, high = TEMPERATURES
    if given and not low <= given["temperature"] <= high:
        raise ValueError(f"the temperature of point {index} is {given['temperature']!r:.40}, not in {low:g}..{high:g}")
    if given and not 0 <= given["threshold"] <= 1:
        raise ValueError(f"the threshold of point {index} is {given['threshold']!r:.40}, not in 0..1")


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) <= 8 and all(type(size) is int for size in value)


def _is_range(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(end) is int for end in value)
