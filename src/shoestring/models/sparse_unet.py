"""A small U-Net of submanifold sparse convolutions for scenes (arXiv 1711.10275, section 5; SparseUNet of arXiv
1904.08755 in width).

Cost follows the voxels that hold points, not the volume. The rule books depend on the points, so there is no graph of
fixed shapes to compress or export: `shoestring fit` refuses it in one line.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, fx, nn

from shoestring.core.errors import BadInput
from shoestring.geometry.rulebook import Pairs, coarser, neighbours, voxelise
from shoestring.models.sparse_conv import InverseConv3d, SparseConv3d

CHANNELS = (16, 32, 48, 64)
_OWN = 4  # features of a voxel that are always there: where its points lie in it, and how many they are


class _Unit(nn.Module):
    """ReLU(norm(convolution))."""

    def __init__(self, conv: SparseConv3d):
        super().__init__()
        self.conv, self.norm, self.relu = conv, nn.BatchNorm1d(conv.weight.shape[2]), nn.ReLU()

    def forward(self, x: Tensor, rules: Sequence[Pairs], rows: int) -> Tensor:
        return self.relu(self.norm(self.conv(x, rules, rows)))


class _Block(nn.Module):
    """Residual: two submanifold convolutions [V, cin] -> [V, cout]."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.first = _Unit(SparseConv3d(cin, cout, 27))
        self.second, self.norm = SparseConv3d(cout, cout, 27), nn.BatchNorm1d(cout)
        self.short = nn.Linear(cin, cout, bias=False) if cin != cout else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, rules: Sequence[Pairs]) -> Tensor:
        y = self.norm(self.second(self.first(x, rules, len(x)), rules, len(x)))
        return self.relu(y + self.short(x))


class SparseUNet(nn.Module):
    """xyz float [B, N, 3] (and features float [B, N, F]) -> logits [B, N, classes]; points of one voxel share theirs.

    `size`: edge of a voxel in the unit of xyz. `channels`: of each level, the finest first; each next one has voxels of
    twice the edge. `features`: F. Raises BadInput when features are missing or do not fit, and as `voxelise` does."""

    def __init__(self, classes: int, size: float, features: int = 0, channels: Sequence[int] = CHANNELS):
        super().__init__()
        self.size, self.features = size, features
        self.stem = _Unit(SparseConv3d(_OWN + features, channels[0], 27))
        pairs = list(pairwise(channels))
        self.encode = nn.ModuleList(_Block(width, width) for width in channels)
        self.down = nn.ModuleList(_Unit(SparseConv3d(fine, coarse, 8)) for fine, coarse in pairs)
        self.up = nn.ModuleList(_Unit(InverseConv3d(coarse, fine, 8)) for fine, coarse in pairs)
        self.decode = nn.ModuleList(_Block(2 * fine, fine) for fine, _ in pairs)
        self.head = nn.Linear(channels[0], classes)

    def forward(self, xyz: Tensor, features: Tensor | None = None) -> Tensor:
        logits, index, _ = self.voxels(xyz, features)
        return logits[index].reshape(*xyz.shape[:2], -1)

    def voxels(self, xyz: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the voxels [V, classes], the voxel of each point int64 [B * N], and the cells int64 [V, 4]."""
        x, index, cells = self.per_voxel(xyz, features)
        return self.head(x), index, cells

    def per_voxel(self, xyz: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Like `voxels`, with the features [V, channels[0]] that the head would read."""
        if isinstance(xyz, fx.Proxy):
            raise BadInput(
                "sparse_unet: which voxels meet depends on the points, so it has no graph of fixed shapes to compress; "
                "give a network of points such as PointViT, or run this one in torch"
            )
        cells, index = voxelise(xyz, self.size)
        x = self._inputs(xyz, features, cells, index)
        rules = neighbours(cells)
        x = self.stem(x, rules, len(cells))
        return self._descend(x, cells, rules, 0), index, cells

    def _descend(self, x: Tensor, cells: Tensor, rules: Sequence[Pairs], level: int) -> Tensor:
        x = self.encode[level](x, rules)
        if level == len(self.down):
            return x
        above, step = coarser(cells)
        deep = self.down[level](x, step, len(above))
        deep = self._descend(deep, above, neighbours(above), level + 1)
        x = torch.cat([x, self.up[level](deep, step, len(cells))], dim=1)
        return self.decode[level](x, rules)

    def _inputs(self, xyz: Tensor, features: Tensor | None, cells: Tensor, index: Tensor) -> Tensor:
        """Means over the points of a voxel [V, 4 + F]: their place from its middle, in edges; the logarithm of their
        number; their features."""
        given = 0 if features is None else features.shape[-1]
        if given != self.features:
            raise BadInput(f"sparse_unet: {given} features a point were given, it was made for {self.features}")
        count = torch.bincount(index, minlength=len(cells)).to(xyz.dtype).unsqueeze(1)
        place = (xyz.reshape(-1, 3).double() / self.size - cells[index, 1:] - 0.5).to(xyz.dtype)
        rows = place if features is None else torch.cat([place, features.reshape(len(index), -1)], dim=1)
        mean = rows.new_zeros(len(cells), rows.shape[1]).index_add_(0, index, rows) / count
        return torch.cat([mean[:, :3], torch.log(count), mean[:, 3:]], dim=1)
