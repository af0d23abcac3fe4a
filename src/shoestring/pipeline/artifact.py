"""From a fitted graph to the contents of its `.shoe`: members, preprocessing, provenance, the measured point."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from onnx import ModelProto

from shoestring.core.ladder import Ladder, Point
from shoestring.core.receipt import Receipt
from shoestring.deploy import shoe
from shoestring.deploy.materialise import pack_weights
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
    training: Mapping[str, Any] = field(default_factory=dict)


def contents(
    original: Original,
    subject: ModelProto,
    story: Story,
    preprocess: Mapping[str, Any] | None,
    labels: Sequence[str],
    bits: Mapping[str, int] | None = None,
) -> shoe.Contents:
    """What is written, before it has been measured. `bits`: layer to the bits of its weight, which then is stored so.
    The original goes in without its weights, so that a receipt can be measured again from the file alone."""
    stripped, packed, weights = pack_weights(subject, bits or {})
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    provenance = {
        "original": dict(original.provenance),
        "trained": original.trained,
        "methods": dict(story.methods),
        "ranges": story.ranges,
        "epochs": story.training.get("epochs", 0),
        "training": {name: list(v) if isinstance(v, tuple) else v for name, v in story.training.items()},
        "seed": story.seed,
        "data": dict(story.data),
        "budget": story.budget,
        "versions": versions,
    }
    return shoe.Contents(
        preprocess=preprocess or original.preprocess or {"kind": "tensor", "shape": list(original.input)},
        labels=tuple(labels or original.labels),
        points=(Point(onnx=GRAPH, weights=weights),),
        members={GRAPH: lean(stripped), **packed, shoe.ORIGINAL: lean(strip_weights(original.graph))},
        provenance=provenance,
    )


def measured(point: Point, receipt: Receipt) -> Point:
    """`point` with what the receipt says of it."""
    subject = receipt.subject
    figures = {
        "runtime": subject.runtime,
        "latency_ms": subject.latency_ms,
        "quality": subject.quality,
        "memory_mb": subject.peak_mb,
        "processor": receipt.device["processor"],
        "threads": receipt.device["threads"],
    }
    return replace(point, measured=figures)


def measured_points(points: Ladder, receipt: Receipt) -> Ladder:
    """Several points, each with what the receipt says of it as a rung of its ladder."""
    here = {"runtime": receipt.subject.runtime, **{name: receipt.device[name] for name in ("processor", "threads")}}
    figures = (
        {"shape": rung.shape, "latency_ms": rung.latency_ms, "quality": rung.quality, "memory_mb": rung.peak_mb, **here}
        for rung in receipt.ladder
    )
    return tuple(replace(point, measured=told) for point, told in zip(points, figures, strict=True))
