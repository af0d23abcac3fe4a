"""Features of some points for others, from the three nearest."""

from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry import operators

NEIGHBOURS = 3
LEAST = 1e-8  # added to squared distances, so that a point may lie on another


def interpolate(x: Tensor, xyz: Tensor, centres: Tensor) -> Tensor:
    """Features [B, M, C] at `centres` [B, M, 3] from features `x` [B, N, C] of the points `xyz` [B, N, 3]: the mean of
    the three nearest (of fewer where N < 3), weighted with 1 / (squared distance + 1e-8) over the sum of the weights
    (PointNet++, arXiv 1706.02413, equation 2 with p = 2). Gradients flow to the features and, through the weights, to
    all coordinates. Raises BadInput for shapes that do not go together and for what the operators refuse."""
    if x.ndim != 3 or xyz.ndim != 3 or x.shape[:2] != xyz.shape[:2]:
        raise BadInput(
            f"interpolate: features {list(x.shape)} of points {list(xyz.shape)} do not go together; "
            "give [B, N, C] and [B, N, 3]"
        )
    index = operators.nearest(centres, xyz, min(NEIGHBOURS, xyz.shape[1]))
    dx, dy, dz = (centres[:, :, None] - operators.take(xyz, index)).unbind(-1)
    weights = ((dx * dx + dy * dy) + dz * dz + LEAST).reciprocal()
    weights = weights / weights.sum(2, keepdim=True)
    return (weights[..., None] * operators.take(x, index)).sum(2)
