"""A plain transformer on patches of a point cloud (Point-MAE, arXiv 2203.06604, sections 3.1 and 3.2).

Centres by farthest point sampling, patches of nearest neighbours about them, a small PointNet that makes a token of a
patch, blocks that add the code of the centre again before each. Coordinates are float32, [B, N, 3], in a unit sphere.
"""

import torch
from torch import Tensor, nn

from shoestring.geometry.interpolate import interpolate
from shoestring.geometry.operators import farthest, nearest, take


class Patches(nn.Module):
    """A token of each patch: [B, M, K, 3] about its centre to [B, M, dim].

    Two layers, the maximum over the patch beside each point, two layers, the maximum. The layer that reads points and
    maximum side by side is two, whose results are added: what depends on the maximum alone is computed once a patch.
    """

    def __init__(self, dim: int):
        super().__init__()
        width = max(8, dim // 3)  # 128, 256, 512 for dim 384, as in the paper's code
        self.conv1 = nn.Conv2d(3, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 1)
        self.own = nn.Conv2d(2 * width, 4 * width, 1, bias=False)
        self.shared = nn.Conv2d(2 * width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.conv4 = nn.Conv2d(4 * width, dim, 1)
        self.relu1, self.relu3 = nn.ReLU(), nn.ReLU()

    def forward(self, groups: Tensor) -> Tensor:
        x = groups.permute(0, 3, 1, 2)  # [B, 3, M, K]
        x = self.conv2(self.relu1(self.bn1(self.conv1(x))))
        x = self.own(x) + self.shared(x.amax(3, keepdim=True))
        x = self.conv4(self.relu3(self.bn3(x))).amax(3)
        return x.transpose(1, 2)


class Attention(nn.Module):
    """[B, T, dim] to the same: softmax(q k' / sqrt(d)) v in each head, as two products of matrices."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.project = nn.Linear(dim, dim)
        self.heads, self.scale = heads, (dim // heads) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.q, self.k, self.v))
        shares = torch.softmax(torch.matmul(q * self.scale, k.transpose(2, 3)), -1)
        return self.project(torch.matmul(shares, v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, dim] to [B, heads, T, dim / heads]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention and a layer of 4 dim, each after a norm and added to what came in."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    """[B, T, dim] to the same: `depth` blocks, the code of the places [B, T, dim] added before each, and a norm."""

    def __init__(self, dim: int, depth: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x + places)
        return self.norm(x)


def some_patches(groups: Tensor, index: Tensor) -> Tensor:
    """The patches [B, T, K, 3] of [B, M, K, 3] that `index` int64 [B, T] names."""
    return take(groups.flatten(2), index).unflatten(2, groups.shape[2:])


def place_code(dim: int) -> nn.Sequential:
    """The layers that make a code [..., dim] of a centre [..., 3]."""
    return nn.Sequential(nn.Linear(3, dim), nn.GELU(), nn.Linear(dim, dim))


class PointViT(nn.Module):
    """xyz [B, N, 3] -> logits [B, classes], or features [B, 2 dim] with `classes` 0.

    `patches` of `neighbours` points each; `dim` must divide by `heads`. Raises BadInput for clouds with fewer points.
    The parts are there for objectives that see some patches only: `group`, `embed`, `place`, `blocks`.
    """

    def __init__(
        self,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        patches: int = 64,
        neighbours: int = 32,
        classes: int = 0,
    ):
        super().__init__()
        self.dim, self.patches, self.neighbours = dim, patches, neighbours
        self.settings = {"dim": dim, "depth": depth, "heads": heads, "patches": patches, "neighbours": neighbours}
        self.embed = Patches(dim)
        self.place = place_code(dim)
        self.blocks = Blocks(dim, depth, heads)
        self.head = nn.Linear(2 * dim, classes) if classes else nn.Identity()

    def group(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Patches about their centres [B, M, K, 3], and the centres [B, M, 3]."""
        centres = take(xyz, farthest(xyz, self.patches))
        groups = take(xyz, nearest(centres, xyz, self.neighbours))
        return groups - centres.unsqueeze(2), centres

    def encode(self, groups: Tensor, centres: Tensor) -> Tensor:
        """Tokens [B, T, dim] of the patches given, whichever they are."""
        return self.blocks(self.embed(groups), self.place(centres))

    def tokens(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, M, dim], and where they are [B, M, 3]."""
        groups, centres = self.group(xyz)
        return self.encode(groups, centres), centres

    def features(self, xyz: Tensor) -> Tensor:
        """[B, 2 dim]: the maximum and the mean of the tokens."""
        return pooled(self.tokens(xyz)[0])

    def point_features(self, xyz: Tensor) -> Tensor:
        """[B, N, dim] of every point: of the three nearest tokens (`geometry.interpolate`)."""
        return interpolate(*self.tokens(xyz), xyz)

    def forward(self, xyz: Tensor) -> Tensor:
        return self.head(self.features(xyz))


def pooled(tokens: Tensor) -> Tensor:
    """[B, T, dim] to [B, 2 dim]: maximum and mean."""
    return torch.cat([tokens.amax(1), tokens.mean(1)], 1)


def point_vit(classes: int = 40) -> PointViT:
    """0.5 M parameters; 64 patches of 32, for 1,024 points."""
    return PointViT(classes=classes)


def point_vit_ti(classes: int = 40) -> PointViT:
    """The width and depth of ViT-Ti."""
    return PointViT(192, 12, 3, classes=classes)


def point_vit_s(classes: int = 40) -> PointViT:
    """ViT-S, 22 M parameters: the encoder of Point-MAE and Point-JEPA."""
    return PointViT(384, 12, 6, classes=classes)
