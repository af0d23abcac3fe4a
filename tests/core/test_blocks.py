"""What a user writes of blocks, and which layer loses what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.blocks import DENSE, Blocks, by_layer, fitting, named, words
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.pattern import BlockPattern, NMPattern

LAYERS = (
    Layer("stem", CONV, "", (), (), (16, 3, 3, 3)),
    Layer("a.depthwise", DEPTHWISE, "", (), (), (16, 1, 3, 3), groups=16),
    Layer("a.project", CONV, "", (), (), (24, 16, 1, 1)),
    Layer("a.project:2", CONV, "", (), (), (24, 16, 1, 1)),
    Layer("b.grouped", CONV, "", (), (), (24, 3, 3, 3), groups=3),
    Layer("head", LINEAR, "", (), (), (10, 24)),
)


@given(st.integers(1, 64), st.integers(1, 64), st.floats(0.1, 99).map(lambda share: round(share, 1)))
def test_blocks_are_spelt_as_they_are_read(outputs: int, inputs: int, percent: float) -> None:
    blocks = Blocks(BlockPattern(outputs, inputs), percent)
    assert Blocks.parse(str(blocks)) == blocks


@pytest.mark.parametrize(("text", "percent"), [("2:4", 50), ("1:4", 75), ("4:8", 50), ("dense", 0)])
def test_n_of_m_says_itself_how_much_goes(text: str, percent: float) -> None:
    assert Blocks.parse(text).percent == percent
    assert str(Blocks.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "4x1", "4x1@", "4x1@0%", "4x1@100%", "4:2", "2:2", "2:4@50%", "0:4", "80%", "Dense"]
)
def test_what_are_no_blocks(text: str) -> None:
    with pytest.raises(BadInput, match="unknown setting") as refused:
        Blocks.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("2:4", ["2:4"]),
        ("2:4:regrow:a.1=1:4:b=dense", ["2:4", "regrow", "a.1=1:4", "b=dense"]),
        ("uniform:4x1@50%", ["uniform", "4x1@50%"]),
        ("t0.05:4x1@50%:lambda1", ["t0.05", "4x1@50%", "lambda1"]),
        ("a.1=2:4", ["a.1=2:4"]),
    ],
)
def test_words_stand_between_colons_but_the_one_of_n_of_m(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_a_word_that_names_layers() -> None:
    assert named("a.*=4x1@50%") == ("a.*", "4x1@50%")
    assert named("a=b=dense") == ("a=b", "dense")
    assert named("4x1@50%") is None
    assert named("=dense") is None


def test_the_ends_and_depthwise_layers_stay_dense_unless_named() -> None:
    blocks, own = Blocks(BlockPattern(4, 1), 80), Blocks(BlockPattern(1, 1), 10)
    found = by_layer(LAYERS, blocks, (("*.depthwise", own), ("head", own)), "magnitude")
    assert found == {
        "stem": (DENSE, True),
        "a.depthwise": (own, True),
        "a.project": (blocks, False),
        "a.project:2": (blocks, False),
        "b.grouped": (blocks, False),
        "head": (own, True),
    }


@pytest.mark.parametrize(
    ("layer", "text", "nearest"),
    [(1, "4x1@50%", "1x1@50%"), (4, "16x1@50%", "8x1@50%"), (4, "2:4", "1x1@50%"), (0, "4x4@30%", "4x3@30%")],
)
def test_what_does_not_fit_names_the_nearest(layer: int, text: str, nearest: str) -> None:
    one = LAYERS[layer]
    assert str(fitting(Blocks.parse(text), one)) == nearest
    with pytest.raises(BadInput) as refused:
        by_layer(LAYERS, DENSE, ((one.name, Blocks.parse(text)),), "ltp")
    told = str(refused.value)
    assert told.startswith(f"ltp: blocks of {Blocks.parse(text).pattern} do not fit {one.name}, which is ")
    assert told.endswith(f"write {one.name}={nearest} or {one.name}=dense")


def test_blocks_that_fit_stay() -> None:
    for text in ("4x1@50%", "8x3@50%", "dense"):
        assert str(fitting(Blocks.parse(text), LAYERS[4])) == text
    assert str(fitting(Blocks(NMPattern(2, 4), 50), LAYERS[2])) == "2:4"


def test_a_name_that_no_layer_has() -> None:
    with pytest.raises(
        BadInput, match=r"^ltp: no layer is called 'x\*'; layers are stem, a.depthwise, a.project, \.\.\."
    ):
        by_layer(LAYERS, DENSE, (("x*", DENSE),), "ltp")


def test_the_nearest_where_that_is_asked_for() -> None:
    found = by_layer(LAYERS, Blocks(BlockPattern(16, 4), 50), (), "magnitude", nearest=True)
    assert {name: str(blocks) for name, (blocks, _) in found.items()} == {
        "stem": "dense",
        "a.depthwise": "dense",
        "a.project": "16x4@50%",
        "a.project:2": "16x4@50%",
        "b.grouped": "8x3@50%",
        "head": "dense",
    }
