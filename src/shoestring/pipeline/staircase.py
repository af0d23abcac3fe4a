"""The staircase of a device, measured on small 8-bit networks: a 3x3 convolution, a pair of 1x1 and a depthwise one in
the middle of such a pair."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core import cache, schema
from shoestring.core.device import Device
from shoestring.core.precision import INT8
from shoestring.core.staircase import WIDTHS, Staircase
from shoestring.core.statistics import MIN_ROUNDS
from shoestring.deploy import runtimes
from shoestring.deploy.quantize import activations, quantise
from shoestring.deploy.rewrite import IR_VERSION, OPSET
from shoestring.measure.machine import pinned
from shoestring.measure.timing import Schedule, interleave

SIZES = {"3x3": 14, "1x1": 28, "depthwise": 28}  # kind to its map's side: a few hundred microseconds each
_AROUND = 128  # the channels before and behind
_SECONDS = 1.2  # a kind
_QUARTER = 0.25  # of the rounds: what disturbs only ever adds
_RANGES = (0.0, 4.0)
_VERSION = 4


def multiple(device: Device) -> int:
    """What widths should be multiples of on a device: measured, in seconds, when it is asked for the first time."""
    return staircase(device).multiple


def staircase(device: Device, progress: Callable[[float], object] | None = None) -> Staircase:
    """The curve of a device, from the cache where it was measured before. Raises BadInput when its runtime is not
    here."""
    key = hashlib.sha256(repr((device.fingerprint, WIDTHS, SIZES, _VERSION)).encode()).hexdigest()[:32]
    found = _stored(key)
    if found is None:
        if progress is not None:
            progress(0.0)
        with cache.lock(cache.MEASURING):
            found = _stored(key)  # again: who held the lock may have measured the same
            if found is None:
                found = _measure(device, progress)
                cache.store("staircases", key, asdict(found))
    return found


def network(kind: str, width: int) -> ModelProto:
    """[1, 128, S, S] -> the same (SIZES), in 8 bits, through layers of `width` channels, a ReLU after each."""
    weights = {  # OIHW
        "3x3": [(width, _AROUND, 3, 3), (_AROUND, width, 3, 3)],
        "1x1": [(width, _AROUND, 1, 1), (width, width, 1, 1), (_AROUND, width, 1, 1)],
        "depthwise": [(width, _AROUND, 1, 1), (width, 1, 3, 3), (_AROUND, width, 1, 1)],
    }[kind]
    random, shape = np.random.default_rng(0), [1, _AROUND, SIZES[kind], SIZES[kind]]
    nodes, tensors, given = [], [], "input"
    for number, weight in enumerate(weights):
        name = f"layer{number}"
        values = random.standard_normal(weight).astype(np.float32) * np.float32(np.prod(weight[1:]) ** -0.5)
        tensors.append(numpy_helper.from_array(values, f"{name}.weight"))
        padding, groups = [weight[2] // 2] * 4, width if weight[1] == 1 else 1
        nodes.append(helper.make_node("Conv", [given, tensors[-1].name], [name], name, pads=padding, group=groups))
        given = "output" if number == len(weights) - 1 else f"{name}.relu"
        nodes.append(helper.make_node("Relu", [name], [given], f"{name}.relu"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph(nodes, f"{kind} {width}", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    precisions = {f"layer{number}": INT8 for number in range(len(weights))}
    return quantise(model, dict.fromkeys(activations(model, precisions), _RANGES), precisions)


def _measure(device: Device, progress: Callable[[float], object] | None) -> Staircase:
    ms: dict[str, tuple[float, ...]] = {}
    runtime = runtimes.get(device.runtime)
    with pinned(device.threads):
        for done, kind in enumerate(SIZES):
            x = np.random.default_rng(0).random((1, _AROUND, SIZES[kind], SIZES[kind]), np.float32)
            graphs = {str(width): network(kind, width).SerializeToString() for width in WIDTHS}
            sessions = {width: runtime.open(graph, threads=device.threads) for width, graph in graphs.items()}
            schedule = Schedule(seconds=_SECONDS, rounds=(MIN_ROUNDS, 2000), threads=device.threads)
            samples = interleave({w: partial(session, x) for w, session in sessions.items()}, schedule).primary()
            ms[kind] = tuple(float(np.quantile(samples[str(width)], _QUARTER)) for width in WIDTHS)
            if progress is not None:
                progress((done + 1) / len(SIZES))
    return Staircase(device.fingerprint, WIDTHS, ms)


def _stored(key: str) -> Staircase | None:
    with contextlib.suppress(ValueError):  # absent, or damaged
        found: Staircase = schema.read(cache.load("staircases", key), Staircase, "staircase")
        return found
    return None
