"""What all objectives share: the encoder is theirs, and what is not said is not done."""

import pytest
import torch
from torch import Tensor

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.objective import Objective
from shoestring.pretrain.views import Views


def test_an_objective_holds_the_encoder_and_says_its_loss(xyz: Tensor, encoder: PointViT) -> None:
    class Size(Objective):
        def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
            return self.encoder.features(xyz).square().mean()

    model = Size(encoder, Views())
    model(xyz, torch.arange(6)).backward()
    assert model.encoder is encoder
    assert encoder.embed.conv1.weight.grad is not None
    model.follow(0.5)
    with pytest.raises(NotImplementedError):
        Objective(encoder, Views())(xyz, torch.arange(6))
