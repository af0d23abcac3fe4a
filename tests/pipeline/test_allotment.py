"""Shares of zeros by what they do to the outputs: losses against whole networks, shares against all that there are."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.compress import magnitude
from shoestring.compress.magnitude import UNIFORM
from shoestring.core.allot import levels_with, share_out
from shoestring.core.cost import Cost
from shoestring.core.pattern import BlockPattern
from shoestring.deploy.weights import weights, with_weights
from shoestring.pipeline.allotment import allotted, losses
from shoestring.pipeline.asked import asked
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import outputs

PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
FOUR = BlockPattern(4, 1)


def quiet(stage: str, share: float) -> None:
    pass


def moved(model: ModelProto, original: ModelProto, inputs: list[np.ndarray]) -> float:
    """Mean squared relative error of the outputs."""
    ours, theirs = (outputs(graph, "onnxruntime", inputs) for graph in (model, original))
    norms = np.linalg.norm(theirs.astype(float), axis=1)
    return float(np.square(np.linalg.norm(ours - theirs, axis=1) / norms).mean())


@pytest.fixture(scope="module")
def measured(original: Original, inputs) -> dict[str, dict[float, float]]:
    return losses(original.graph, dict.fromkeys(PROJECTS, FOUR), inputs, 50, quiet)


def test_losses_grow_with_the_share(measured: dict[str, dict[float, float]]) -> None:
    assert list(measured) == list(PROJECTS)
    for found in measured.values():
        assert list(found) == levels_with(50)
        assert found[0] == 0
        assert list(found.values()) == sorted(found.values())
        assert found[95] > 4 * found[10] > 0


@pytest.mark.parametrize("level", [50, 95])
def test_losses_are_of_the_network_and_below_those_of_magnitude(level, measured, original: Original, inputs) -> None:
    """Each layer alone, the best blocks gone and the others refitted: less than what the smallest blocks would cost."""
    for name in PROJECTS:
        weight = weights(original.graph)[name]
        norms = FOUR.norms(weight)
        gone = FOUR.expand(norms > np.quantile(norms, level / 100, method="lower"), weight.shape)
        cut = with_weights(original.graph, {name: np.where(gone, weight, 0).astype(np.float32)})
        assert 0 < measured[name][level] < moved(cut, original.graph, inputs[:4])


def test_everything_gone_is_the_network_without_the_layer(original: Original, inputs) -> None:
    """With nearly all weights at zero, whatever is left cannot do much: the loss is near that of a constant."""
    (found,) = losses(original.graph, {PROJECTS[0]: FOUR}, inputs, 95, quiet).values()
    without = with_weights(original.graph, {PROJECTS[0]: 0 * weights(original.graph)[PROJECTS[0]]})
    assert found[95] < moved(without, original.graph, inputs[:4])


def test_shares_are_the_best_there_are(measured) -> None:
    """Of all pairs of levels that together take no more than half of the zeros."""
    costs = {PROJECTS[0]: Cost((0.0, 1.0), (3.0, 0.0)), PROJECTS[1]: Cost((0.0, 1.0), (1.0, 0.0))}
    found = share_out(measured, 50, costs)
    allowed = [
        measured[PROJECTS[0]][a] + measured[PROJECTS[1]][b]
        for a, b in product(levels_with(50), repeat=2)
        if 3 * (1 - a / 100) + (1 - b / 100) <= 2 + 1e-9
    ]
    assert sum(measured[name][found[name]] for name in PROJECTS) == pytest.approx(min(allowed))


def test_settings_of_layers_that_share(original: Original, inputs) -> None:
    """They get shares of their own; what was set by itself, and what stays dense, is as it was."""
    step = asked(original, ("magnitude:4x1@50%:global",))[0]
    settings = step.settings(original)
    found = allotted(original, magnitude, settings, {}, inputs, quiet)
    assert found.keys() == settings.keys()
    assert np.mean([found[name].blocks.percent for name in PROJECTS]) >= 50
    assert {found[name].scope for name in PROJECTS} == {UNIFORM}
    assert all(found[name] == settings[name] for name in settings if name not in PROJECTS)
    alone = asked(original, ("magnitude:4x1@50%:uniform",))[0].settings(original)
    assert allotted(original, magnitude, alone, {}, inputs, quiet) == alone


def test_milliseconds_weigh(original: Original, inputs) -> None:
    """Of two layers the one whose zeros save ten times as much loses more."""
    settings = asked(original, ("magnitude:4x1@50%:milliseconds",))[0].settings(original)
    for slow, quick in (PROJECTS, PROJECTS[::-1]):
        costs = {slow: Cost((0.0, 0.95), (10.0, 0.5)), quick: Cost((0.0, 0.95), (1.0, 0.05))}
        found = allotted(original, magnitude, settings, costs, inputs, quiet)
        assert found[slow].blocks.percent > found[quick].blocks.percent
        limit = sum(costs[name].at(0.5) for name in PROJECTS)
        assert sum(costs[name].at(found[name].blocks.percent / 100) for name in PROJECTS) <= limit + 1e-9


def test_an_onnx_file(onnx_files: dict[str, Path], inputs, measured) -> None:
    """The same losses for the same network, whoever exported it."""
    theirs = resolve(str(onnx_files["float"]))
    names = [name for name in weights(theirs.graph) if "project" in name]
    found = losses(theirs.graph, dict.fromkeys(names, FOUR), inputs, 50, quiet)
    for name, own in zip(names, PROJECTS, strict=True):
        assert list(found[name].values()) == pytest.approx(list(measured[own].values()), rel=0.05)
