"""Strict JSON and typed dataclasses: what a stranger's file must pass before anybody uses it."""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

MAX_DEPTH = 32
# Control characters could drive a terminal, lone surrogates cannot be printed; tab and line feed are harmless.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def parse_json(data: bytes) -> Any:
    """Plain JSON in UTF-8. Raises ValueError on anything that is not: NaN and infinities, a key given twice,
    unprintable characters, nesting deeper than MAX_DEPTH."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    _check(value, 0)
    return value


def dump_json(value: Any) -> bytes:
    """Equal values give equal bytes. Raises ValueError on what JSON cannot hold."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def mismatch(value: Any, hint: Any, where: str) -> str | None:
    """Where and how `value` differs from its type `hint`, or None: dataclasses field by field, tuples, mappings with
    string keys, unions, floats that may be written as integers."""
    if hint is Any:
        return None
    if isinstance(hint, UnionType):
        faults = [mismatch(value, option, where) for option in get_args(hint)]
        return None if None in faults else faults[0]
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]  # a class here, not an instance
            return f"{where} is a {type(value).__name__}"
        hints = get_type_hints(hint).items()
        return _first(mismatch(getattr(value, name), of, f"{where}.{name}") for name, of in hints)
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return f"{where} is a {type(value).__name__}, not a tuple"
        return _first(mismatch(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return f"{where} is not an object with string keys"
        return _first(mismatch(item, get_args(hint)[1], f"{where}[{key[:40]!r}]") for key, item in value.items())
    if type(value) is hint or (hint is float and type(value) is int):
        return None
    return f"{where} is a {type(value).__name__}, not a {getattr(hint, '__name__', hint)}"


def read(value: Any, hint: Any, where: str) -> Any:
    """`value`, as JSON is parsed, as the type `hint`: objects become dataclasses, lists tuples; a union is one with
    None. Raises ValueError where a type is another, a field is unknown, or one without a default is missing."""
    if isinstance(hint, UnionType):
        if value is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
    if dataclasses.is_dataclass(hint):
        return hint(**_fields(value, hint, where))  # type: ignore[operator]  # a class here, not an instance
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is a {type(value).__name__}, not a list")
        return tuple(read(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(hint) is Mapping and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: read(item, get_args(hint)[1], f"{where}[{key[:40]!r}]") for key, item in value.items()}
    if fault := mismatch(value, hint, where):
        raise ValueError(fault)
    return value


def one_line(text: object) -> str:
    """Safe to print: what a hostile file makes an error say could drive a terminal, or fill it."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)[:1000]).split())[:250]


def _fields(value: Any, kind: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is a {type(value).__name__}, not an object")
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise ValueError(f"{where} has the unknown field {str(name)[:40]!r}")
    for field in dataclasses.fields(kind):
        if field.name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} has no {field.name}")
    return {name: read(item, hints[name], f"{where}.{name}") for name, item in value.items()}


def _first(faults: Any) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(items := dict(pairs)) != len(pairs):
        raise ValueError("a key is given twice")
    return items


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str) and _UNPRINTABLE.search(value):
        raise ValueError("a text holds control characters")
    if isinstance(value, float | int) and not abs(value) <= sys.float_info.max:
        raise ValueError("a number is out of range")  # whole ones too: whoever computes with them expects floats
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
