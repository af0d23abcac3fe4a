"""What an objective is: an encoder, what learns beside it, and a loss of clouds."""

from torch import Tensor, nn

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.heads import Vectors
from shoestring.pretrain.views import Views


class Objective(nn.Module):
    """`encoder` is what is kept; everything else in the module is thrown away when the learning is over, but `vectors`,
    where there are some: layers that make vectors in space [B, count, 3] of features [B, 2 dim].

    `look`: how clouds are shown to it; one file an objective says what is learned from that.
    """

    vectors: Vectors | None

    def __init__(self, encoder: PointViT, look: Views):
        super().__init__()
        self.encoder, self.look, self.vectors = encoder, look, None

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        """The loss, a scalar, of clouds float32 [B, N, 3] that are number `index` int64 [B] of the data."""
        raise NotImplementedError

    def follow(self, progress: float) -> None:
        """Called after each step with the share of the run that is done."""
