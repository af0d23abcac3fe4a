"""Block patterns: which weights are kept or removed together.

`RxC` is a block of R outputs x C inputs of one kernel tap, aligned from 0 in OIHW (linear: out x in), inside a group;
ragged edges are zero-padded. `N:M` keeps N of M neighbouring inputs. Both are defined on the folded, exported weight.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from shoestring.core.errors import BadInput


@dataclass(frozen=True)
class BlockPattern:
    """`outputs` x `inputs` weights that live or die together; 1x1 is unstructured."""

    outputs: int
    inputs: int

    @classmethod
    def parse(cls, text: str) -> "BlockPattern":
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if match is None:
            raise BadInput(f"pattern: cannot read {text!r}; write OUTPUTSxINPUTS, for example 4x1")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inputs}"

    def within(self, shape: tuple[int, ...], groups: int = 1) -> "BlockPattern":
        """The largest pattern of at most these sides that a group of a weight [O, I, ...] holds: itself if it fits."""
        return BlockPattern(min(self.outputs, max(1, shape[0] // groups)), min(self.inputs, shape[1]))

    def sizes(self, shape: tuple[int, ...], groups: int = 1) -> np.ndarray:
        """How many weights each block of `shape` really holds, in the shape of `norms`; fewer at ragged edges."""
        return self._blocks(np.ones(shape, np.int8), groups).sum(axis=(2, 4)).astype(np.int64)

    def norms(self, weight: np.ndarray, groups: int = 1) -> np.ndarray:
        """Euclidean norm of every block. `weight`: [O, I, ...] (I inputs of one group) to
        [groups, ceil(O / groups / outputs), ceil(I / inputs), taps], float64."""
        squares = np.square(self._blocks(weight, groups))
        return np.sqrt(squares.sum(axis=(2, 4)))

    def expand(self, keep: np.ndarray, shape: tuple[int, ...], groups: int = 1) -> np.ndarray:
        """A mask over blocks (the shape `norms` returns) as a mask over weights of `shape`."""
        per_group = shape[0] // groups
        full = keep.repeat(self.outputs, axis=1).repeat(self.inputs, axis=2)
        return full[:, :per_group, : shape[1]].reshape(shape)

    def sparsity(self, weight: np.ndarray, groups: int = 1) -> float:
        """Share of blocks that are entirely zero, each counted by the weights it really holds."""
        zero = np.abs(self._blocks(weight, groups)).max(axis=(2, 4)) == 0
        return float(self.expand(zero, weight.shape, groups).mean())

    def _blocks(self, weight: np.ndarray, groups: int) -> np.ndarray:
        """[O, I, ...] to [groups, block rows, outputs, block columns, inputs, taps], zero-padded."""
        outputs, inputs = weight.shape[:2]
        if outputs % groups:
            raise BadInput(f"pattern: {outputs} outputs do not divide into {groups} groups")
        flat = weight.reshape(groups, outputs // groups, inputs, -1).astype(np.float64)
        rows, columns = -(-flat.shape[1] // self.outputs), -(-inputs // self.inputs)
        pad = ((0, 0), (0, rows * self.outputs - flat.shape[1]), (0, columns * self.inputs - inputs), (0, 0))
        padded = np.pad(flat, pad)
        return padded.reshape(groups, rows, self.outputs, columns, self.inputs, flat.shape[3])


@dataclass(frozen=True)
class NMPattern:
    """Of every `of` inputs that follow one another, at one output and kernel tap, `kept` stay (arXiv 2104.08378). At a
    ragged end of fewer inputs as many stay, if there are."""

    kept: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "NMPattern":
        match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise BadInput(f"pattern: cannot read {text!r}; write KEPT:OF, for example 2:4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.kept}:{self.of}"

    @property
    def percent(self) -> float:
        """The share that goes."""
        return 100 * (1 - self.kept / self.of)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight [O, I, ...] has so many inputs (of one group)."""
        return shape[1] >= self.of

    def keep(self, weight: np.ndarray) -> np.ndarray:
        """What stays of a weight [O, I, ...]: bool in its shape, the largest magnitudes; of equal ones the last."""
        outputs, inputs = weight.shape[:2]
        flat = np.abs(weight.reshape(outputs, inputs, -1).astype(np.float64))
        padded = np.pad(flat, ((0, 0), (0, -inputs % self.of), (0, 0)), constant_values=-1)  # goes first
        groups = padded.reshape(outputs, -1, self.of, flat.shape[2])
        ranks = groups.argsort(axis=2, kind="stable").argsort(axis=2, kind="stable")
        kept = (ranks >= self.of - self.kept).reshape(outputs, -1, flat.shape[2])
        return kept[:, :inputs].reshape(weight.shape)


Pattern: TypeAlias = BlockPattern | NMPattern


def parse_pattern(text: str) -> Pattern:
    """`4x1` or `2:4`. Raises BadInput."""
    return NMPattern.parse(text) if ":" in text else BlockPattern.parse(text)
