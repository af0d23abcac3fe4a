"""Which methods and options go together, without a network."""

from pathlib import Path

import pytest

from shoestring.cli.methods import beside, exits_of, read_bits, require_apart, space_of, with_bits
from shoestring.core.errors import BadInput


def test_what_adapts_is_read_off_the_methods() -> None:
    assert (exits_of(("int8",), 0), space_of(("int8",), 0, False)) == ("", "")
    assert exits_of(("exits:lose=1",), 0) == "2:lose=1"
    assert space_of(("slim:w=0.5,1",), 3, False) == "w=0.5,1"
    assert space_of((), 3, False) == ""
    assert space_of(("magnitude", "slim:w=0.5,1", "lsq+:w4a4"), 3, False) == "w=0.5,1"
    assert beside(("magnitude", "slim:w=0.5,1", "lsq+:w4a4")) == ("magnitude", "lsq+:w4a4")


@pytest.mark.parametrize("adaptive", ["--ladder", "--method exits"])
@pytest.mark.parametrize("option", ["--from", "--no-reconstruct", "--features", "--fixed-norms"])
def test_what_would_be_passed_over_is_refused(adaptive: str, option: str) -> None:
    given = {"--from": False, "--no-reconstruct": False, "--features": False, "--fixed-norms": False, option: True}
    with pytest.raises(BadInput, match=f"^{option}: .*; leave it or {adaptive} out$"):
        require_apart(adaptive, given["--from"], not given["--no-reconstruct"], *list(given.values())[2:])
    require_apart(adaptive, False, True, False, False)


def test_bits_belong_to_methods_that_know_them() -> None:
    assert with_bits(("magnitude:80%", "lsq:w4a4"), {"stem": "w8a8"}) == ("magnitude:80%", "lsq:w4a4:stem=w8a8")
    assert with_bits(("slim:d=1", "lsq+"), {"stem": "w8a8"}) == ("slim:d=1", "lsq+:stem=w8a8")
    with pytest.raises(BadInput, match="--bits: belong to a method"):
        with_bits(("magnitude:80%",), {"stem": "w8a8"})


def test_bits_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bits.json"
    path.write_text('{"stem.*": "w8a8"}')
    assert read_bits(path) == {"stem.*": "w8a8"}
    for text, why in (("[]", "is not an object of bits"), ('{"a": 4}', "is not an object"), ("{", "cannot be read")):
        path.write_text(text)
        with pytest.raises(BadInput, match=why):
            read_bits(path)
