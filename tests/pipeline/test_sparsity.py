"""What zeros cost: the networks that are timed, and what lies between their times."""

import numpy as np
import pytest

from shoestring.compress import int8, magnitude
from shoestring.core.blocks import Blocks
from shoestring.core.pattern import BlockPattern
from shoestring.deploy.weights import weights
from shoestring.pipeline.original import Original
from shoestring.pipeline.sparsity import blocks, variants


def test_the_share_of_blocks_is_what_the_option_says(original: Original, inputs: list[np.ndarray]) -> None:
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    (half, most) = variants(original, inputs[:2], precisions, levels=(50, 90)).values()
    pattern, kept = BlockPattern.parse("4x1"), {"stem.0", "classifier"}
    groups = {layer.name: layer.groups for layer in original.layers}
    for graph, share in ((half, 0.5), (most, 0.9)):
        found = {name: pattern.sparsity(value, groups[name]) for name, value in weights(graph).items()}
        pruned = {name for name in found if groups[name] == 1} - kept
        assert pruned
        for name in pruned:
            blocks = weights(graph)[name].size / 4
            assert found[name] == pytest.approx(share, abs=1 / blocks + 0.02), name  # codes that rounded to 0 besides
        assert all(found[name] < 0.3 for name in kept)


def test_what_a_layer_loses_is_what_is_timed(original: Original) -> None:
    """Blocks of 32x1 are cut to the sixteen outputs there are; what `magnitude` leaves whole stays so."""
    found = {
        name: str(own)
        for name, own in blocks(original.of_kinds(magnitude.CARD.kinds), Blocks.parse("32x1@80%")).items()
    }
    project = {"blocks.0.project.0": "16x1@80%", "blocks.1.project.0": "16x1@80%"}
    assert found == {layer.name: "dense" for layer in original.layers if layer.weight} | project
