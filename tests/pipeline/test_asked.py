"""What `--method` asks for, layer by layer."""

import pytest

from shoestring.compress import METHODS
from shoestring.core.errors import BadInput
from shoestring.pipeline.asked import asked
from shoestring.pipeline.original import Original
from shoestring.train.recipe import Recipe


def test_without_a_method_the_planner_has_8_bits_to_choose(original: Original) -> None:
    (step,) = asked(original, ())
    settings = step.settings(original)
    assert step.method is METHODS["int8"]
    assert {str(setting) for setting in settings.values()} == {"int8"}
    assert list(settings) == [layer.name for layer in original.layers if layer.weight]


def test_bits_of_single_layers(original: Original) -> None:
    (step,) = asked(original, ("lsq+:w4a4:blocks.1.*=w2a3:classifier=w6a8",), Recipe(epochs=1))
    settings = step.settings(original)
    bits = {name: str(setting).split(":")[1] for name, setting in settings.items()}
    assert bits == {
        "stem.0": "w8a8",
        "blocks.0.depthwise.0": "w4a4",
        "blocks.0.project.0": "w4a4",
        "blocks.1.depthwise.0": "w2a3",
        "blocks.1.project.0": "w2a3",
        "classifier": "w6a8",
    }


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        (("lsqq",), "unknown method 'lsqq'; known are int8, lsq, lsq+"),
        (("int8", "lsq"), "int8 and lsq cannot be combined; give one of them"),
        (("magnitude", "block_ltp"), "magnitude and block_ltp cannot be combined; give one of them"),
        (("magnitude:4x1@50%", "magnitude:1x1@50%"), "magnitude and magnitude cannot be combined"),
        (("int8:w9",), "unknown setting 'w9'"),
        (("lsq+:w4a4:nowhere=w8a8",), "no layer is called 'nowhere'"),
        (("lsq+:config1",), "unknown setting 'config1'"),
    ],
)
def test_what_is_refused(methods: tuple[str, ...], reason: str, original: Original) -> None:
    with pytest.raises(BadInput) as refused:
        asked(original, methods)
    assert reason in str(refused.value)


def test_epochs_need_a_method_that_trains(original: Original) -> None:
    with pytest.raises(
        BadInput, match=r"int8 works after training; write --epochs 0, or --method one of lsq, lsq\+, channels, s"
    ):
        asked(original, ("int8",), Recipe(epochs=1))


def test_channels_go_before_kernels_are_decomposed(original: Original) -> None:
    steps = asked(original, ("magnitude", "structured:n=2", "channels:25%"))
    assert [step.method.CARD.name for step in steps] == ["channels", "structured", "magnitude", "int8"]


def test_methods_apply_in_the_order_of_their_cards(original: Original) -> None:
    """However they are written: zeros before bits, and 8 bits where none are asked for."""
    for written in (("lsq+:w4a4", "block_ltp:4x1@50%"), ("block_ltp:4x1@50%", "lsq+:w4a4")):
        assert [str(step.setting).split(":")[0] for step in asked(original, written)] == ["block_ltp", "lsq+"]
    assert [step.method for step in asked(original, ("ltp",))] == [METHODS["ltp"], METHODS["int8"]]
