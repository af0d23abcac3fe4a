"""Shape: what is left of a kernel, and the bases that belong to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shoestring.compress.structured_conv.windows import differences, projector, windows
from shoestring.core.errors import BadInput

Layer = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Shape:
    """`inputs` of one group and the `taps` of each axis of the kernel, the C and N of the paper, and how many of them
    are kept, its `c` and `n`."""

    inputs: int
    taps: tuple[int, ...]
    c: int
    n: tuple[int, ...]

    @classmethod
    def of(cls, weight: Sequence[int], c: int | None, n: int | None) -> "Shape":
        """Of a weight [out, in, *taps]: `c` of its inputs and `n` taps along each axis; None keeps all, and so does an
        axis that has fewer."""
        inputs, taps = weight[1], tuple(weight[2:])
        return cls(
            inputs, taps, inputs if c is None else c, tuple(size if n is None else min(n, size) for size in taps)
        )

    @property
    def changes(self) -> bool:
        """Whether anything is left out."""
        return (self.c, self.n) != (self.inputs, self.taps)

    @property
    def pools(self) -> bool:
        """Whether sums are made over pixels."""
        return self.n != self.taps

    @property
    def window(self) -> tuple[int, ...]:
        """The taps of each axis over which those sums go."""
        return tuple(taps - kept + 1 for taps, kept in zip(self.taps, self.n, strict=True))

    def projectors(self) -> tuple[Tensor | None, ...]:
        """Onto the structured weights, for the axes of a weight [out, in, *taps]."""
        axes = [(self.inputs, self.c), *zip(self.taps, self.n, strict=True)]
        return (None, *(projector(size, kept) if kept < size else None for size, kept in axes))

    def basis(self) -> Tensor:
        """[inputs * taps, fewer], orthonormal, float64: columns that span the rows of structured weights, flat."""
        found = torch.ones(1, 1, dtype=torch.float64)
        for size, kept in ((self.inputs, self.c), *zip(self.taps, self.n, strict=True)):
            axis = torch.linalg.qr(differences(size, kept)).Q if kept < size else torch.eye(size, dtype=found.dtype)
            # torch.kron refuses some that do not lie in memory row by row.
            found = torch.einsum("ab,cd->acbd", found, axis).flatten(2).flatten(0, 1)
        return found

    def boxes(self) -> tuple[Tensor | None, ...]:
        """Bases in which the coordinates are the weight of the layer behind the sums (`decompose`)."""
        spatial = (windows(size, kept) if kept < size else None for size, kept in zip(self.taps, self.n, strict=True))
        return (None, differences(self.inputs, self.c) if self.c < self.inputs else None, *spatial)


def checked(module: nn.Module) -> Layer:
    """The layer that a module is. Raises BadInput when it is none that can be structured."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        raise BadInput(f"structured: {type(module).__name__} is not a convolution (1d, 2d) or linear layer")
    return module


def shape_of(layer: nn.Module, c: int | None = None, n: int | None = None) -> Shape:
    """The structure {c, n} of a convolution [out, C / groups, *N] or linear layer [out, C]. None keeps all; an axis
    shorter than `n` keeps its taps. Raises BadInput for other layers, numbers out of range, and fewer channels in more
    than one group, whose sums the paper does not define."""
    layer = checked(layer)
    inputs = layer.weight.shape[1]
    if c is not None and not 1 <= c <= inputs:
        raise BadInput(f"structured: c={c} of {inputs} input channels; give 1 to {inputs}")
    if n is not None and n < 1:
        raise BadInput(f"structured: n={n}; give the taps that each axis of the kernel keeps, 1 or more")
    if c not in (None, inputs) and getattr(layer, "groups", 1) > 1:
        raise BadInput("structured: the channels of a layer with groups cannot be summed over; leave c out")
    return Shape.of(layer.weight.shape, c, n)
