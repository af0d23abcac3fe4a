"""What `fit` is asked for by `--method` and beside it: which go together, and which do not."""

from collections.abc import Mapping
from pathlib import Path

from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line, parse_json

SLIM = "slim"


def exits_of(methods: tuple[str, ...], ladder: int) -> str:
    """What `exits:` says of them, empty without; it goes with no other method. Raises BadInput."""
    from shoestring.compress.exits.settings import NAME, parse  # loads what the verb needs, torch included

    found = [method for method in methods if method.partition(":")[0] == NAME]
    if not found:
        return ""
    if ladder:
        raise BadInput(f"--ladder: makes operating points of its own; leave it or --method {found[0]} out")
    if len(methods) > 1:
        raise BadInput(f"--method {found[0]}: goes alone, with 8 bits; leave the other method out")
    return str(parse(found[0].partition(":")[2])).partition(":")[2]


def space_of(methods: tuple[str, ...], ladder: int, front: bool) -> str:
    """What `slim:` says of the space of a ladder. Raises BadInput."""
    slim = [method for method in methods if method.partition(":")[0] == SLIM]
    if slim and not ladder:
        raise BadInput(f"--method {slim[0]}: makes operating points; add --ladder N, for example --ladder 5")
    if ladder and front:
        raise BadInput("--ladder: makes its own range of points; give plain limits, which the richest must hold")
    if len(slim) > 1:
        raise BadInput(f"--method: slim is written {len(slim)} times; write it once")
    return slim[0].partition(":")[2] if slim else ""


def beside(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are about layers: beside a ladder, which `slim:` describes."""
    return tuple(method for method in methods if method.partition(":")[0] != SLIM)


def with_bits(methods: tuple[str, ...], bits: Mapping[str, str]) -> tuple[str, ...]:
    """The methods as they would be written with the bits of single layers behind those that know bits."""
    from shoestring.compress import METHODS  # as above

    shaping = {SLIM, *(name for name, method in METHODS.items() if method.CARD.prunes or method.CARD.reshapes)}
    known = [method for method in methods if method.partition(":")[0] not in shaping]
    if bits and not known:
        raise BadInput("--bits: belong to a method; add --method lsq+:w4a4")
    told = [f"{name}={text}" for name, text in bits.items()]
    return tuple(":".join([method, *(told if method in known else [])]) for method in methods)


def read_bits(path: Path) -> Mapping[str, str]:
    """Bits by layer from a JSON file. Raises BadInput."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"--bits: {path} cannot be read: {one_line(error)}") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise BadInput(f'--bits: {path} is not an object of bits by layer, such as {{"stem.*": "w8a8"}}')
    return found


def require_apart(adaptive: str, start: bool, reconstruct: bool, features: bool, fixed_norms: bool) -> None:
    """Raises BadInput for what networks that adapt (`adaptive`: --ladder, --method exits) would pass over."""
    for option, given, why in (
        ("--from", start, "brings zeros, which would not stay"),
        ("--no-reconstruct", not reconstruct, "nothing is reconstructed here"),
        ("--features", features, "no features are followed here"),
        ("--fixed-norms", fixed_norms, "every size has statistics of its own"),
    ):
        if given:
            raise BadInput(f"{option}: {why}; leave it or {adaptive} out")
