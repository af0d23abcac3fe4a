"""Which layer gets what."""

import pytest

from shoestring.compress.structured_conv.settings import DENSE, Kept, Structured, assign, parse
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer


def conv(name: str, *weight: int, kind: str = CONV, groups: int = 1, fixed: bool = False) -> Layer:
    return Layer(name, kind, "Conv", (), (), weight, groups=groups, fixed=fixed)


LAYERS = (
    conv("stem", 8, 3, 3, 3),
    conv("one", 16, 8, 1, 1),
    conv("dw", 16, 1, 5, 5, kind=DEPTHWISE, groups=16),
    conv("three", 8, 16, 3, 3),
    conv("pool", 8, 1, 2, 2, kind=DEPTHWISE, groups=8, fixed=True),
    conv("grouped", 8, 4, 1, 1, groups=2),
    conv("three:2", 8, 16, 3, 3),
    conv("hidden", 8, 8, kind=LINEAR),
    conv("fc", 10, 8, kind=LINEAR),
)


def kept(text: str) -> dict[str, str]:
    return {name: str(setting.kept) for name, setting in assign(LAYERS, parse(text)).items() if setting.kept != DENSE}


def test_kernels_and_channels() -> None:
    assert kept("") == {"dw": "n2", "three": "n2", "three:2": "n2"}
    assert kept("n=3") == {"dw": "n3"}
    assert kept("c=0.5") == {"one": "c0.5", "hidden": "c0.5"}
    assert kept("n=2:c=0.5") == {"dw": "n2", "three": "n2", "three:2": "n2", "one": "c0.5", "hidden": "c0.5"}


def test_names_win_and_are_taken_whatever_was_measured() -> None:
    assert kept("n=2:stem=n2:dw=dense") == {"stem": "n2", "three": "n2", "three:2": "n2"}
    assert kept("fc=c0.25") == {"fc": "c0.25"}  # a name alone is all that is asked for
    found = assign(LAYERS, parse("n=2:three=c0.5n1"))
    assert found["three"].kept == found["three:2"].kept == Kept(0.5, 1)
    assert found["three"].everywhere
    assert not found["dw"].everywhere
    assert all(setting.layers == () for setting in found.values())


def test_all_and_lambda() -> None:
    found = assign(LAYERS, parse("n=2:all:lambda0"))
    assert found["dw"] == Structured(Kept(n=2), 0.0, True)
    assert found["stem"] == Structured(DENSE, 0.0)


def test_at_least_one_channel() -> None:
    assert Kept(0.1).channels(4) == 1
    assert Kept(0.5).channels(7) == 3
    assert Kept(n=2).channels(7) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere=n2", "no layer is called 'nowhere'"),
        ("grouped=c0.5", "grouped has groups"),
        ("one=n2", "one has a kernel of 1x1 taps; n=2 leaves it as it is"),
        ("hidden=n2", "hidden has a kernel of no taps"),
    ],
)
def test_what_layers_cannot_have(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        assign(LAYERS, parse(text))
