"""From a fitted graph to the contents of its `.shoe`: members, preprocessing, provenance, the measured point."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from onnx import ModelProto

from shoestring.core.ladder import Point
from shoestring.core.receipt import Receipt
from shoestring.deploy import shoe
from shoestring.deploy.rewrite import lean, strip_weights
from shoestring.pipeline.original import Original

GRAPH = "model.onnx"
_PACKAGES = ("shoestring", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Story:
    """How a file came to be. `methods`: layer to setting as written; the rest as `provenance` in the manifest."""

    methods: Mapping[str, str]
    ranges: str
    budget: str
    seed: int
    data: Mapping[str, Any] = field(default_factory=dict)


def contents(
    original: Original, subject: ModelProto, story: Story, preprocess: Mapping[str, Any] | None, labels: Sequence[str]
) -> shoe.Contents:
    """What is written, before it has been measured. The original goes in without its weights, so that a receipt can
    be measured again from the file alone."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    provenance = {
        "original": dict(original.provenance),
        "trained": original.trained,
        "methods": dict(story.methods),
        "ranges": story.ranges,
        "epochs": 0,
        "seed": story.seed,
        "data": dict(story.data),
        "budget": story.budget,
        "versions": versions,
    }
    return shoe.Contents(
        preprocess=preprocess or original.preprocess or {"kind": "tensor", "shape": list(original.input)},
        labels=tuple(labels or original.labels),
        points=(Point(onnx=GRAPH),),
        members={GRAPH: lean(subject), shoe.ORIGINAL: lean(strip_weights(original.graph))},
        provenance=provenance,
    )


def measured_point(receipt: Receipt) -> Point:
    subject = receipt.subject
    measured = {
        "runtime": subject.runtime,
        "latency_ms": subject.latency_ms,
        "quality": subject.quality,
        "memory_mb": subject.peak_mb,
        "processor": receipt.device["processor"],
        "threads": receipt.device["threads"],
    }
    return Point(onnx=GRAPH, measured=measured)
