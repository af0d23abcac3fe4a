"""Pictures of features: one a cloud, coloured together."""

import numpy as np
import pytest
import torch

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.evaluation.pictures import feature_pictures


@pytest.mark.parametrize("symmetry", ["none", "frames"])
def test_a_picture_of_each_cloud(symmetry: str) -> None:
    torch.manual_seed(0)
    encoder = PointViT(dim=24, depth=1, heads=3, patches=8, neighbours=6).eval()
    clouds = np.random.default_rng(0).standard_normal((2, 60, 3))
    found = feature_pictures(encoder, clouds, symmetry, "z")
    assert list(found) == ["Cloud 1", "Cloud 2"]
    assert all(picture.startswith("<img") and "data:image/png;base64," in picture for picture in found.values())
    assert found["Cloud 1"] != found["Cloud 2"]
