"""What an encoder sees: its features of points as colours, on clouds as they are."""

import numpy as np
import torch
from numpy import ndarray

from shoestring.geometry.frames import canonical
from shoestring.models.point_vit import PointViT
from shoestring.report.cloud import embedded, pca_colours, splat
from shoestring.report.markup import Markup

_SIZE = (560, 420)


@torch.no_grad()
def feature_pictures(encoder: PointViT, clouds: ndarray, symmetry: str = "none", up: str = "y") -> dict[str, Markup]:
    """Caption to picture of each of `clouds` float [n, N, 3], coloured together, so that one colour is one feature in
    all of them. `encoder`: in eval mode."""
    x = torch.from_numpy(clouds.astype(np.float32))
    seen = x if symmetry == "none" else canonical(x)
    colours = pca_colours(encoder.point_features(seen).flatten(0, 1).numpy()).reshape(len(clouds), -1, 3)
    drawn = zip(clouds, colours, strict=True)
    return {
        f"Cloud {i + 1}": embedded(splat(cloud, of, _SIZE, up="xyz".index(up)), f"cloud {i + 1} in colours of features")
        for i, (cloud, of) in enumerate(drawn)
    }
