"""How a cloud is shown to a network that learns by itself: turned, stretched, shifted, cropped, shaken.

All functions take and give float32 [B, N, 3] and draw from torch's own generator, which the loop seeds by step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry.frames import averaged, canonical, in_frames
from shoestring.geometry.operators import nearest, take
from shoestring.geometry.rotations import rotations
from shoestring.models.point_vit import PointViT

ROTATE = ("none", "up", "so3")
SYMMETRY = ("none", "frames", "average")
_UP = {"x": 0, "y": 1, "z": 2}
_KINDS = {"up": "z", "so3": "SO3"}  # as `rotations` calls them


@dataclass(frozen=True)
class Views:
    """`rotate`: not at all, about the axis `up` (x, y or z), or anyhow. `scale`: each axis by a factor up to this or
    down to one over it, `shift`: along each axis, at most (Point-MAE's are 1.5 and 0.2). `crop`: least share of the
    points that is left, those nearest to one of them. `jitter`: standard deviation of noise, cut at three.

    `symmetry`: `frames` brings a cloud to its canonical frame (`geometry.frames`) after all this; `average` to one of
    its four frames at random, and features are means over the four. Raises BadInput for values that are not known.
    """

    rotate: str = "up"
    up: str = "y"
    scale: float = 1.5
    shift: float = 0.2
    crop: float = 1.0
    jitter: float = 0.0
    symmetry: str = "none"

    def __post_init__(self) -> None:
        for name, known in (("rotate", ROTATE), ("symmetry", SYMMETRY), ("up", tuple(_UP))):
            if getattr(self, name) not in known:
                raise BadInput(f"{name}: {getattr(self, name)!r} is not known; write one of {', '.join(known)}")
        for name, low, high in (("scale", 1.0, 10.0), ("shift", 0.0, 1.0), ("crop", 0.05, 1.0), ("jitter", 0.0, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"{name}: {getattr(self, name)} is out of range; give {low:g} to {high:g}")


def view(xyz: Tensor, how: Views) -> Tensor:
    """One random look at each cloud, in the frame that the network is to see."""
    return seen(turned_view(xyz, how)[0], how.symmetry)


def turned_view(xyz: Tensor, how: Views) -> tuple[Tensor, Tensor]:
    """One random look at each cloud, as it is turned, and by which rotations float32 [B, 3, 3]: R of points R p."""
    if how.crop < 1:
        xyz = cropped(xyz, how.crop)
    by = torch.eye(3).expand(len(xyz), 3, 3) if how.rotate == "none" else turns(len(xyz), how.rotate, how.up)
    by = by.to(xyz)
    if how.rotate != "none":
        xyz = xyz @ by.transpose(1, 2)
    if how.scale > 1:
        bound = math.log(how.scale)
        xyz = xyz * xyz.new_empty(len(xyz), 1, 3).uniform_(-bound, bound).exp()
    if how.shift:
        xyz = xyz + xyz.new_empty(len(xyz), 1, 3).uniform_(-how.shift, how.shift)
    if how.jitter:
        xyz = xyz + torch.randn_like(xyz).clamp_(-3, 3) * how.jitter
    return xyz, by


def seen(xyz: Tensor, symmetry: str) -> Tensor:
    """The frame in which a network that learns sees a cloud."""
    if symmetry == "frames":
        return canonical(xyz)
    if symmetry == "average":
        one = torch.randint(4, (len(xyz),), device=xyz.device)
        return in_frames(xyz)[torch.arange(len(xyz), device=xyz.device), one]
    return xyz


def posed(function: Callable[[Tensor], Tensor], xyz: Tensor, symmetry: str) -> Tensor:
    """`function` of clouds in the frames that `symmetry` says, the same whenever it is asked: [B, ...], for `average`
    the mean over the four frames."""
    if symmetry == "average":
        return averaged(function, xyz)
    return function(canonical(xyz) if symmetry == "frames" else xyz)


def features(encoder: PointViT, xyz: Tensor, symmetry: str = "none") -> Tensor:
    """[B, features] of an encoder that learned with `symmetry`."""
    return posed(encoder.features, xyz, symmetry)


def point_features(encoder: PointViT, xyz: Tensor, symmetry: str = "none") -> Tensor:
    """[B, N, dim] of every point, by an encoder that learned with `symmetry`."""
    return posed(encoder.point_features, xyz, symmetry)


def turns(count: int, rotate: str, up: str = "y") -> Tensor:
    """Random rotations float32 [count, 3, 3]: about `up`, or (so3) any. The seed is drawn from torch's generator."""
    random = np.random.default_rng(int(torch.randint(2**62, ())))
    return torch.from_numpy(rotations(_KINDS[rotate], count, random, _UP[up]).astype(np.float32))


def cropped(xyz: Tensor, least: float) -> Tensor:
    """The points nearest to one of them, which comes first: of all clouds the same share, uniform in [least, 1]."""
    share = least + (1 - least) * float(torch.rand(()))
    middle = torch.randint(xyz.shape[1], (len(xyz), 1), device=xyz.device)
    return take(xyz, nearest(take(xyz, middle), xyz, max(1, round(share * xyz.shape[1]))).squeeze(1))
