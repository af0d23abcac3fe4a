"""Who is judged: encoders, and what they have to beat."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.encoder_file import with_head
from shoestring.pretrain.evaluation.fine_tune import Posed
from shoestring.pretrain.evaluation.judge import Subject
from shoestring.pretrain.evaluation.local_features import local_features
from shoestring.pretrain.evaluation.random_forest import forest_head, forest_scores
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.heads import Vectors
from shoestring.pretrain.views import features, point_features

_CHUNK, _TREES = 32, 100


def encoder_subject(
    name: str, encoder: PointViT, symmetry: str = "none", baseline: bool = False, vectors: Vectors | None = None
) -> Subject:
    """Frozen features of `encoder`, in eval mode, that learned with `symmetry`; a linear SVM judges them, and those of
    points a linear head. `vectors`: what makes vectors of them, where it learned some. It is fine-tuned under the same
    symmetry."""

    def network(seed: int, classes: int) -> nn.Module:
        return Posed(with_head(encoder, classes), symmetry)

    of, of_points = (partial(one, encoder, symmetry=symmetry) for one in (features, point_features))
    turning = None if vectors is None else through(lambda xyz: vectors(of(xyz)))
    return Subject(name, through(of), baseline=baseline, vectors=turning, points=through(of_points), network=network)


def hand_made(name: str = "forest", invariant: bool = False, clouds: ndarray | None = None, up: int = 1) -> Subject:
    """Features of shapes, and of points where they are judged, in a random forest: what no network is needed for.
    `clouds`: others than all are shown, such as those in metres, whose size tells a lamp from a wardrobe by itself.
    `up`: the vertical axis, 0 to 2, that features of points know."""
    of, per_point = partial(shape_features, invariant=invariant), partial(local_features, up=up)
    probe = partial(forest_scores, trees=_TREES)
    return Subject(name, of, probe, clouds, baseline=True, points=per_point, point_probe=forest_head)


def through(function: Callable[[Tensor], Tensor]) -> Callable[[ndarray], ndarray]:
    """`function` of arrays float [n, N, 3], some clouds at a time and without gradients."""

    @torch.no_grad()
    def of(clouds: ndarray) -> ndarray:
        parts = np.array_split(clouds.astype(np.float32), -(-len(clouds) // _CHUNK))
        return np.concatenate([function(torch.from_numpy(part)).numpy() for part in parts])

    return of
