"""Hand-made features of points: what a segmentation by learned features is set beside.

Eigenvalue features of the neighbourhood (Weinmann et al. 2015, ISPRS J. 105) at two sizes, as more than one does better
than the best one (Thomas et al. 2018, 3DV), and where the point is in its cloud.
"""

import numpy as np
import torch
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.geometry.operators import nearest, take

SIZES = (16, 64)  # points of a neighbourhood, the point among them
_CHUNK = 16  # clouds at once


def local_features(clouds: ndarray, up: int = 1) -> ndarray:
    """float32 [n, N, 18] of the points of `clouds` float [n, N, 3]; `up`: the vertical axis, 0 to 2.

    Where it is: x, y, z and the distance to the mean. Of its 16 and its 64 nearest (of all, where there are fewer):
    linearity, planarity, scattering, the logarithm of the largest deviation, how upright the normal is, the height over
    their mean and how high they reach in all. Raises BadInput on other shapes or values that are not finite."""
    clouds = np.asarray(clouds, np.float32)
    if clouds.ndim != 3 or clouds.shape[2] != 3 or clouds.shape[1] < 4:
        raise BadInput(f"local features: clouds {clouds.shape} are not [n, N >= 4, 3]; give coordinates only")
    if not np.isfinite(clouds).all():
        raise BadInput("local features: a coordinate is not finite; leave that cloud out")
    parts = (torch.from_numpy(clouds[start : start + _CHUNK]) for start in range(0, len(clouds), _CHUNK))
    return np.concatenate([_features(part, up) for part in parts])


def _features(xyz: torch.Tensor, up: int) -> ndarray:
    centred = xyz - xyz.mean(1, keepdim=True)
    near = nearest(xyz, xyz, min(max(SIZES), xyz.shape[1]))
    parts = [centred, centred.norm(dim=2, keepdim=True)]
    parts += [_shape(xyz, take(xyz, near[:, :, :size].contiguous()), up) for size in SIZES]
    return torch.cat(parts, 2).float().numpy()


def _shape(xyz: torch.Tensor, near: torch.Tensor, up: int) -> torch.Tensor:
    """[B, N, 7] of neighbourhoods [B, N, K, 3]."""
    mean = near.mean(2)
    local = (near - mean.unsqueeze(2)).double()
    values, vectors = torch.linalg.eigh(local.transpose(2, 3) @ local / near.shape[2])
    third, second, first = values.clamp_min(0).sqrt().unbind(2)
    largest = first.clamp_min(1e-9)
    shape = [(first - second) / largest, (second - third) / largest, third / largest, largest.log()]
    high = near[..., up]
    place = [vectors[:, :, up, 0].abs(), xyz[..., up] - mean[..., up], high.amax(2) - high.amin(2)]
    return torch.stack([one.double() for one in (*shape, *place)], 2)
