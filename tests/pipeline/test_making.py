"""Methods applied one after the other: what becomes of each layer, what comes in between, and who decides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoestring.core.errors import NoEffectWarning
from shoestring.deploy import runtimes
from shoestring.deploy.grids import stored
from shoestring.deploy.normal_form import is_quantised, violations
from shoestring.pipeline import making
from shoestring.pipeline.asked import asked
from shoestring.pipeline.making import Made, make
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe


@pytest.fixture
def made(original: Original, samples: Samples, tmp_path: Path) -> Callable[..., Made | None]:
    """`made("int8", reconstruct=False)`: on onnxruntime."""

    def run(*methods: str, dense: Any = None, **request: Any) -> Made | None:
        given = Request(**{"out": tmp_path / "x.shoe", "runtime": "onnxruntime", **request})
        return make(original, samples, given, asked(original, methods, given.recipe), lambda *_: None, dense)

    return run


def test_every_layer_in_8_bits(made, original: Original) -> None:
    done = made("int8")
    layers = [layer.name for layer in original.layers if layer.weight]
    assert done.picks == dict.fromkeys(layers, "int8")
    assert done.quantised == set(layers)
    assert violations(done.subject) == []
    assert all(layer.scales is not None for layer in stored(done.subject).values())
    assert (done.device.runtime, done.pruned, done.learned) == ("onnxruntime", None, None)
    assert set(done.refitted.errors) == set(layers)
    assert done.raw.SerializeToString() != done.subject.SerializeToString()


def test_the_raw_damage(made) -> None:
    done = made("int8", reconstruct=False)
    assert done.refitted is done.raw is None
    assert done.subject.SerializeToString() == done.dense.build().SerializeToString()


def test_a_layer_that_stays_in_fp32_is_the_original_s(made, original: Original) -> None:
    done = made("int8:stem.0=fp32", reconstruct=False)
    assert done.picks["stem.0"] == "fp32"
    assert done.quantised == set(done.picks) - {"stem.0"}
    ours, theirs = stored(done.subject)["stem.0"], stored(original.graph)["stem.0"]
    assert ours.scales is None
    np.testing.assert_array_equal(ours.weight, theirs.weight)
    assert "stem.0" in done.dense.precisions  # what the receipt compares with has all layers in 8 bits


def test_where_all_stay_it_is_the_original_and_says_so(made, original: Original, samples: Samples) -> None:
    with pytest.warns(NoEffectWarning, match="every layer stays in fp32"):
        done = made("int8:*=fp32")
    assert done.quantised == set()
    assert not is_quantised(done.subject)
    ours, theirs = (outputs(graph, "onnxruntime", samples.judgement) for graph in (done.subject, original.graph))
    np.testing.assert_array_equal(ours, theirs)


def test_zeros_before_bits(made) -> None:
    done = made("magnitude:4x1@50%:blocks.*.project.*=4x1@50%", "int8:w4")
    assert done.quantised == set(done.picks)
    zeros = {name: float((layer.weight == 0).mean()) for name, layer in stored(done.subject).items()}
    assert all(zeros[f"blocks.{index}.project.0"] >= 0.5 for index in (0, 1))
    assert max(zeros["stem.0"], zeros["classifier"]) < 0.25
    assert set(done.pruned.settings) >= {"blocks.0.project.0", "blocks.1.project.0"}


def test_what_is_calibrated_already_is_not_calibrated_again(made, original, samples, monkeypatch) -> None:
    dense = eight_bit(original, samples)
    monkeypatch.setattr(making, "eight_bit", lambda *_: pytest.fail("again"))
    done = made("int8", dense=dense, reconstruct=False)
    assert done.dense is dense
    assert done.subject.SerializeToString() == dense.build().SerializeToString()


def test_without_a_runtime_it_is_for_the_fastest(made, timed) -> None:
    for winner in runtimes.installed():
        timed({winner: 1.0})
        assert made("int8", runtime=None, reconstruct=False).device.runtime == winner


def test_methods_that_train_share_the_epochs(made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels, zeros and bits: a third each. A process that only helps to train hands back nothing."""
    ways = []
    monkeypatch.setattr(making, "shape", lambda *given: ways.append(given[4]))
    assert made("channels:25%", "magnitude:4x1@50%", "lsq+:w4a4", recipe=Recipe(epochs=6.0)) is None
    (way,) = ways
    assert way.recipe.epochs == 2.0
