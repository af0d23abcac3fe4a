"""CrossPoint: a cloud is to be told from others by another look at it, and by a picture of it (arXiv 2203.00680).

The pictures are drawn by us from a random side (`render`), anew at every step, or given: then each cloud has its own.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, ntxent
from shoestring.pretrain.heads import projection
from shoestring.pretrain.render import pictures
from shoestring.pretrain.views import Views, turns


class PictureEncoder(nn.Module):
    """float32 [B, channels, H, W] to [B, 8 width]: four convolutions of stride 2 and the mean over the picture."""

    def __init__(self, channels: int, width: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        sizes = (channels, width, 2 * width, 4 * width, 8 * width)
        for cin, cout in pairwise(sizes):
            layers += [nn.Conv2d(cin, cout, 3, 2, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
        self.layers, self.features = nn.Sequential(*layers), sizes[-1]

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures).mean((2, 3))


class CrossModal(Contrast):
    """The loss of two looks plus that of their mean and the picture (CrossPoint, eq. 5: eq. 2 + eq. 4).

    `shown`: pictures of all clouds, uint8 or float [n, H, W] or [n, H, W, channels], in the order of the data; None
    draws them, `size` pixels a side, from any side above (rotations about the vertical, then a tilt). Raises BadInput
    for other shapes."""

    given: Tensor | None

    def __init__(
        self,
        encoder: PointViT,
        look: Views,
        size: int = 32,
        width: int = 128,
        temperature: float = 0.1,
        shown: ndarray | None = None,
    ):
        super().__init__(encoder, look, "ntxent", width, temperature)
        self.size = size
        self.register_buffer("given", None if shown is None else _channels_first(shown), persistent=False)
        self.see = PictureEncoder(2 if shown is None else _channels_first(shown[:1]).shape[1])
        self.project_picture = projection(self.see.features, width)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        a, b = self.codes(xyz)
        seen = self.project_picture(self.see(self.pictures(xyz, index)))
        return ntxent(a, b, self.temperature) + ntxent((a + b) / 2, seen, self.temperature)

    def pictures(self, xyz: Tensor, index: Tensor) -> Tensor:
        """float32 [B, channels, H, W]: those given, or of the clouds as they are, from a random side."""
        if self.given is not None:
            return self.given[index]
        seen_from = sides(len(xyz), self.look.up).numpy()
        return torch.from_numpy(pictures(xyz.detach().cpu().numpy(), seen_from, self.size)).to(xyz.device)


def sides(count: int, up: str) -> Tensor:
    """Rotations float32 [count, 3, 3] that bring a cloud with its axis `up` before an eye that looks along z, from a
    random side and from 0 to 45 degrees above."""
    axis = "xyz".index(up)
    upright = torch.eye(3)[[(axis + 1) % 3 if axis == 0 else 0, axis, 1 if axis == 2 else 2]]
    upright[0] *= torch.linalg.det(upright)
    tilt = torch.rand(count) * (torch.pi / 4)
    level, steep, rest = tilt.cos(), tilt.sin(), torch.zeros(count)
    rows = [(rest + 1, rest, rest), (rest, level, -steep), (rest, steep, level)]
    tilts = torch.stack([torch.stack(row, 1) for row in rows], 1)
    return tilts @ upright @ turns(count, "up", up)


def _channels_first(shown: ndarray) -> Tensor:
    """float32 [n, channels, H, W], from 0 to 1 where bytes are given."""
    if shown.ndim not in (3, 4) or shown.dtype.kind not in "uf" or (shown.ndim == 4 and shown.shape[3] > 4):
        raise BadInput(
            f"pictures: {shown.dtype} {list(shown.shape)} are none; give bytes or floats [clouds, height, width] or "
            "[clouds, height, width, channels]"
        )
    values = shown.astype(np.float32) / (255 if shown.dtype == np.uint8 else 1)
    return torch.from_numpy(values[:, None] if shown.ndim == 3 else np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
