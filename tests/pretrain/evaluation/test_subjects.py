"""Who is judged: frozen features of encoders in their symmetry, and features made by hand."""

import numpy as np
import torch

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.evaluation.judge import exam, judge
from shoestring.pretrain.evaluation.local_features import local_features
from shoestring.pretrain.evaluation.random_forest import forest_head
from shoestring.pretrain.evaluation.segmentation import linear_head
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.subjects import encoder_subject, hand_made, through
from shoestring.pretrain.views import features, point_features


def test_an_encoder_is_its_features() -> None:
    torch.manual_seed(0)
    encoder = PointViT(dim=24, depth=1, heads=3, patches=8, neighbours=6).eval()
    clouds = np.random.default_rng(0).standard_normal((40, 30, 3))
    for symmetry in ("none", "frames"):
        with torch.no_grad():
            expected = features(encoder, torch.from_numpy(clouds).float(), symmetry).numpy()
        found = encoder_subject("one", encoder, symmetry).features(clouds)
        np.testing.assert_allclose(found, expected, atol=1e-5)  # in two parts


def test_hand_made_features_go_through_a_forest(shapes) -> None:
    subject = hand_made(invariant=True)
    np.testing.assert_array_equal(subject.features(shapes[0]), shape_features(shapes[0], invariant=True))
    assert subject.baseline
    assert np.mean(judge(subject, exam(*shapes, seeds=1), ("linear",))["all labels"].values) > 90
    assert hand_made(clouds=shapes[0]).clouds is shapes[0]


def test_through_takes_some_at_a_time() -> None:
    seen = []
    found = through(lambda x: (seen.append(len(x)), x.mean(1))[1])(np.ones((70, 5, 3)))
    assert found.shape == (70, 3)
    assert max(seen) <= 32 and sum(seen) == 70


def test_points_have_features_too(shapes) -> None:
    torch.manual_seed(0)
    encoder = PointViT(dim=24, depth=1, heads=3, patches=8, neighbours=6).eval()
    for symmetry in ("none", "frames"):
        subject = encoder_subject("one", encoder, symmetry)
        with torch.no_grad():
            expected = point_features(encoder, torch.from_numpy(shapes[0][:2]), symmetry).numpy()
        assert subject.points is not None and subject.point_probe is linear_head
        np.testing.assert_allclose(subject.points(shapes[0][:2]), expected, atol=1e-5)
    forest = hand_made(up=2)
    assert forest.points is not None and forest.point_probe is forest_head
    np.testing.assert_array_equal(forest.points(shapes[0][:2]), local_features(shapes[0][:2], up=2))
