"""Points by the cells of a regular grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.core.errors import BadInput

_MOST = 2.0**62  # cells of a grid, so that int64 numbers them
_FARTHEST = 2.0**52  # cells from the origin, so that double precision counts them


@dataclass(frozen=True)
class Voxels:
    """The V cells of a grid that hold points, in ascending order of x, y, z. `keys`: which, int64 [V, 3]; `counts`: the
    points in each, int64 [V]; `inverse`: the cell of each point, int64 [N]; `centres`: the mean of its points, [V, 3].
    """

    keys: Tensor
    counts: Tensor
    inverse: Tensor
    centres: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """Means [V, C] of what the points have, `x` [N, C]. Gradients flow to `x`. Raises BadInput."""
        if x.ndim != 2 or len(x) != len(self.inverse):
            raise BadInput(f"voxels: {list(x.shape)} is not of these points; give [{len(self.inverse)}, C]")
        return _mean(x, self.inverse, self.counts)


def voxels(xyz: Tensor, size: float) -> Voxels:
    """The cells floor(xyz / size), in the tensor's own type, of points [N, 3]. Raises BadInput for a size that is not
    above 0, coordinates that are not finite, and a grid of more cells than int64 can number."""
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise BadInput(f"voxels: points are {list(xyz.shape)}; give [N, 3], one cloud at a time")
    if not 0 < size < float("inf"):
        raise BadInput(f"voxels: a size of {size} does not work; give one above 0")
    if not torch.isfinite(xyz).all():
        raise BadInput("voxels: coordinates must be finite; leave out points with NaN or infinity")
    if not len(xyz):
        none = xyz.new_empty(0, dtype=torch.int64)
        return Voxels(none.reshape(0, 3), none, none, xyz.new_empty(0, 3))
    # By a tensor: on CUDA a plain number would be multiplied by its reciprocal, another rounding.
    cells = (xyz.detach() / torch.tensor(size, dtype=xyz.dtype, device=xyz.device)).floor().double()
    low = cells.amin(0)
    extents = cells.amax(0) - low + 1
    if not (extents.prod() < _MOST and cells.abs().max() < _FARTHEST):
        raise BadInput(f"voxels: a size of {size} makes too many cells for these points; write a larger one")
    low, extents = low.long(), extents.long()
    places = cells.long() - low
    numbers = (places[:, 0] * extents[1] + places[:, 1]) * extents[2] + places[:, 2]
    numbers, inverse, counts = numbers.unique(return_inverse=True, return_counts=True)
    rest = numbers.div(extents[2], rounding_mode="floor")
    planes = rest.div(extents[1], rounding_mode="floor"), rest % extents[1], numbers % extents[2]
    return Voxels(torch.stack(planes, 1) + low, counts, inverse, _mean(xyz, inverse, counts))


def _mean(x: Tensor, inverse: Tensor, counts: Tensor) -> Tensor:
    return x.new_zeros(len(counts), x.shape[1]).index_add(0, inverse, x) / counts[:, None]
