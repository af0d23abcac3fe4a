"""The staircase: what layers of widths in between really cost here, and so which widths are worth having.

A kernel works on so many channels at a time; a width in between pays for those that it does not have. Measured on small
8-bit networks: a 3x3 convolution, a pair of 1x1 and a depthwise one in the middle of such a pair.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core import cache, schema
from shoestring.core.device import Device
from shoestring.core.precision import INT8
from shoestring.core.statistics import MIN_ROUNDS
from shoestring.deploy import runtimes
from shoestring.deploy.quantize import activations, quantise
from shoestring.deploy.rewrite import IR_VERSION, OPSET
from shoestring.measure.machine import pinned
from shoestring.measure.timing import Schedule, interleave

MULTIPLES = (1, 2, 4, 8, 16, 32)
# Between the ends, odd ones, multiples of 2 and no more, of 4, of 8, of 16 and of 32.
WIDTHS = (32, 34, 36, 37, 40, 42, 44, 45, 48, 52, 56, 60, 64, 72, 80, 96)
SIZES = {"3x3": 14, "1x1": 28, "depthwise": 28}  # kind to its map's side: a few hundred microseconds each
NOISE = 0.02  # of a time: what widths may waste before they are snapped; medians are no surer than that
_AROUND = 128  # the channels before and behind
_SECONDS = 1.2  # a kind
_QUARTER = 0.25  # of the rounds: what disturbs only ever adds
_RANGES = (0.0, 4.0)
_VERSION = 4


@dataclass(frozen=True)
class Staircase:
    """`ms`: kind to the lower quartile of one call at each of `widths`. `device`: its fingerprint."""

    device: str
    widths: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    @property
    def multiples(self) -> dict[str, int]:
        """Kind to the multiple that widths of its layers are worth snapping to."""
        return {kind: worth(self.widths, times) for kind, times in self.ms.items()}

    @property
    def multiple(self) -> int:
        """The one for a network of all kinds: of their mean curve, each taken as a multiple of its first point."""
        shapes = [np.array(times) / times[0] for times in self.ms.values()]
        return worth(self.widths, tuple(np.mean(shapes, axis=0).tolist()))


def multiple(device: Device) -> int:
    """What widths should be multiples of on a device: measured, in seconds, when it is asked for the first time."""
    return staircase(device).multiple


def staircase(device: Device, progress: Callable[[float], object] | None = None) -> Staircase:
    """The curve of a device, from the cache where it was measured before. Raises BadInput when its runtime is not
    here."""
    key = hashlib.sha256(repr((device.fingerprint, WIDTHS, SIZES, _VERSION)).encode()).hexdigest()[:32]
    with contextlib.suppress(ValueError):  # absent, or damaged
        return schema.read(cache.load("staircases", key), Staircase, "staircase")
    found = _measure(device, progress)
    cache.store("staircases", key, asdict(found))
    return found


def worth(widths: Sequence[int], ms: Sequence[float]) -> int:
    """The smallest of MULTIPLES whose widths lie on the lower envelope: where no mix of a narrower and a wider one has
    as many channels in less time. Their mean time over it may be NOISE more than that of the best multiple, since noise
    lifts all of them. `widths` rise; the first and the last say nothing."""
    lowest = envelope(widths, ms)
    over = {width: time / low - 1 for width, time, low in zip(widths, ms, lowest, strict=True)}
    average: dict[int, float] = {}
    for multiple in MULTIPLES:
        own = [over[width] for width in widths[1:-1] if width % multiple == 0]
        if own:
            average[multiple] = sum(own) / len(own)
    least = min(average.values())
    return next(multiple for multiple, mean in average.items() if mean <= least + NOISE)


def envelope(widths: Sequence[int], ms: Sequence[float]) -> list[float]:
    """The lower convex hull of the curve, at each width."""
    hull: list[tuple[int, float]] = []
    for width, time in zip(widths, ms, strict=True):
        while len(hull) > 1 and _above(hull[-1], hull[-2], (width, time)):
            hull.pop()
        hull.append((width, time))
    known, times = zip(*hull, strict=True)
    found: list[float] = np.interp(widths, known, times).tolist()
    return found


def _above(middle: tuple[int, float], left: tuple[int, float], right: tuple[int, float]) -> bool:
    share = (middle[0] - left[0]) / (right[0] - left[0])
    return middle[1] >= left[1] + share * (right[1] - left[1])


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
