"""Programs of one network in several widths, cut from the weights of the widest: MobileNetV2 with random weights, in
the engine's own form. A file of this recognises nothing; it is as large and as slow as one that does."""

from collections.abc import Sequence

import numpy as np

from shoestring.core.pattern import BlockPattern
from shoestring.engine.program import (
    F32,
    NONE,
    U8,
    AveragePool,
    Const,
    Conv,
    Copy,
    Linear,
    Op,
    Pool,
    Program,
    Quantise,
    Requantise,
    Sum,
    Tensor,
)

# Of MobileNetV2 (Sandler et al. 2018, table 2): expansion, channels, repeats, stride.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, LAST, CLASSES = 32, 1280, 1000
MIDDLE = 128  # the zero point of all tensors


class Ladder:
    """`program(width)` for any width up to 1; `zeros` of the 4x1 blocks of ungrouped layers behind the stem are zero,
    of the widest network, so of all; `size` of the pictures."""

    def __init__(self, size: int = 224, zeros: float = 0.0) -> None:
        self.size, self.zeros = size, zeros
        self._weights: dict[str, np.ndarray] = {}
        self.program(1.0)

    def program(self, width: float) -> Program:
        return _Drawing(self, width).program()

    def weight(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """Codes of a layer: those of the widest that it has, in memory of their own."""
        if name not in self._weights:  # the widest comes first
            rng = np.random.default_rng(len(self._weights))
            codes = np.clip(np.rint(rng.normal(0, 32, shape)), -127, 127).astype(np.int8)
            if self.zeros and shape[1] > 1 and name != "stem":
                blocks = BlockPattern.parse("4x1")
                keep = rng.random(blocks.norms(codes).shape) >= self.zeros
                codes *= blocks.expand(keep, codes.shape)
            self._weights[name] = codes
        return np.ascontiguousarray(self._weights[name][tuple(slice(extent) for extent in shape)])


class _Drawing:
    """The ops of one point, as they are drawn."""

    def __init__(self, ladder: Ladder, width: float) -> None:
        self.ladder, self.width, self.pool = ladder, width, Pool()
        self.rng = np.random.default_rng(round(width * 1000))
        self.tensors = [Tensor("x", (3, ladder.size, ladder.size), F32)]
        self.ops: list[Op] = []

    def program(self) -> Program:
        at = self.tensor(3, self.ladder.size, self.ladder.size)
        self.ops.append(Quantise("quantise", 0, at, self.constant(0.02), MIDDLE))
        at = self.conv("stem", at, self.channels(STEM), 3, 2)
        for stage, (expansion, outputs, repeats, stride) in enumerate(STAGES):
            for repeat in range(repeats):
                name, step, start = f"{stage}.{repeat}", stride if repeat == 0 else 1, at
                inside = expansion * self.tensors[at].shape[0]
                if expansion > 1:
                    at = self.conv(f"{name}.expand", at, inside, 1)
                at = self.conv(f"{name}.depthwise", at, inside, 3, step)
                at = self.conv(f"{name}.project", at, self.channels(outputs), 1, added=start if repeat else NONE)
        at = self.conv("last", at, LAST, 1)
        channels, side, _ = self.tensors[at].shape
        means, rows, logits = self.tensor(channels, 1, 1), self.tensor(channels), self.tensor(CLASSES, dtype=F32)
        each = self.constant(*(1 / np.arange(1, side * side + 1)))
        how = Requantise(Const(), each, MIDDLE)
        self.ops.append(AveragePool("mean", at, means, MIDDLE, 0, (side, side), (1, 1), (0, 0, 0, 0), how))
        zeros, last = (0, 0, 0, 0, 0, 1), (1, 1, 1, 1, 1, channels)
        self.ops.append(Copy("flat", means, rows, 0, 0, last, zeros, zeros))
        codes = self.ladder.weight("classifier", (CLASSES, channels))
        self.ops.append(Linear("classifier", rows, logits, self.pool.add(codes), MIDDLE, 8, self.requantise(codes)))
        return Program(tuple(self.tensors), tuple(self.ops), (0,), (logits,), self.pool)

    def channels(self, widest: int) -> int:
        return max(8, int(widest * self.width + 4) // 8 * 8)

    def constant(self, *values: float) -> Const:
        return self.pool.add(np.array(values, np.float32))

    def tensor(self, *shape: int, dtype: int = U8) -> int:
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, dtype))
        return len(self.tensors) - 1

    def requantise(self, codes: np.ndarray) -> Requantise:
        """A multiplier and a bias of the point's own for every channel; codes fill their range."""
        spread = 40 * np.sqrt(np.maximum(np.square(codes.astype(np.float32)).reshape(len(codes), -1).sum(axis=1), 1))
        multipliers = (self.rng.uniform(30, 50, len(codes)) / spread).astype(np.float32)
        bias = self.rng.integers(-999, 999, len(codes)).astype(np.int32)
        return Requantise(self.pool.add(bias), self.pool.add(multipliers), MIDDLE)

    def conv(self, name: str, at: int, outputs: int, kernel: int, stride: int = 1, added: int = NONE) -> int:
        inputs, side, _ = self.tensors[at].shape
        groups = inputs if name.endswith("depthwise") else 1
        codes = self.ladder.weight(name, (outputs, inputs // groups, kernel, kernel))
        pad = kernel // 2
        out = self.tensor(outputs, *((side + 2 * pad - kernel) // stride + 1,) * 2)
        sum_ = Sum(added, 0, self.constant(0.6, 0.6, -0.2 * MIDDLE)) if added != NONE else Sum()
        self.ops.append(
            Conv(
                name, at, out, self.pool.add(codes), MIDDLE, groups, (kernel,) * 2, (stride,) * 2, (1, 1), (pad,) * 4,
                self.requantise(codes), sum_,
            )  # type: ignore[arg-type]
        )  # fmt: skip
        return out
