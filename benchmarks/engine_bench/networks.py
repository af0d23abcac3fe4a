"""The files that are timed: networks of the zoo with random blocks at zero, in 8 bits by the post-training path.

The masks are random, and the ranges come from noise: speed only, since such a network recognises nothing. Masked are
all convolutions but the depthwise ones and the stem; linear layers stay dense.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from shoestring.compress import int8
from shoestring.core.pattern import BlockPattern
from shoestring.deploy.rewrite import attributes
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate


@dataclass(frozen=True)
class Zeros:
    """`percent` of the blocks of `pattern` are zero; 0 is the dense network, whatever the pattern."""

    percent: int = 0
    pattern: str = "4x1"

    def __str__(self) -> str:
        return f"{self.pattern}@{self.percent}%" if self.percent else "dense"


def eight_bits(original: Original, zeros: Zeros) -> ModelProto:
    """The masked network in normal form."""
    graph = masked(original.graph, zeros)
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    return calibrate(graph, [noise(original, seed) for seed in range(4)], precisions).build()


def noise(original: Original, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, *original.input), dtype=np.float32)


def masked(graph: ModelProto, zeros: Zeros) -> ModelProto:
    """A copy in which exactly so many blocks of each layer are zero, chosen by a seed that is the layer's name."""
    copy = ModelProto()
    copy.CopyFrom(graph)
    names = {node.input[1] for node in maskable(copy)} if zeros.percent else set()
    pattern = BlockPattern.parse(zeros.pattern)
    for tensor in copy.graph.initializer:
        if tensor.name in names:
            weight = numpy_helper.to_array(tensor)
            blocks = pattern.norms(weight)
            order = np.random.default_rng(zlib.crc32(tensor.name.encode())).permutation(blocks.size)
            keep = (order >= round(zeros.percent / 100 * blocks.size)).reshape(blocks.shape)
            tensor.CopyFrom(numpy_helper.from_array(weight * pattern.expand(keep, weight.shape), tensor.name))
    return copy


def maskable(graph: ModelProto) -> Iterator[NodeProto]:
    """Ungrouped convolutions but the first."""
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return (node for node in convolutions[1:] if attributes(node).get("group", 1) == 1)
