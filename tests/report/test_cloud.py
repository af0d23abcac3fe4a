"""Pictures of clouds: what is in front hides what is behind, and colours follow the features."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.report.cloud import embedded, label_colours, pca_colours, splat

RED, BLUE = np.array([[200, 0, 0]], np.uint8), np.array([[0, 0, 200]], np.uint8)


def test_the_nearer_point_hides_the_farther_one() -> None:
    """Two points on one line of sight, and two that hold the frame open."""
    frame = np.array([[-1.0, 0, 0], [1.0, 0, 0]])
    grey = np.full((2, 3), 90, np.uint8)
    for colours, wanted in (((RED, BLUE), BLUE), ((BLUE, RED), RED)):
        points = np.concatenate([frame, [[0, 0, -5.0], [0, 0, 5.0]]])
        picture = splat(points, np.concatenate([grey, *colours]), (60, 60), azimuth=0, elevation=90, radius=5)
        middle = np.asarray(picture)[30, 30]
        assert middle[3] == 255
        assert middle[:3].argmax() == wanted[0].argmax() and middle[:3].max() > 100


@pytest.mark.parametrize("up", [0, 1, 2])
def test_up_is_up(up: int) -> None:
    points = np.zeros((2, 3))
    points[1, up] = 1.0
    picture = np.asarray(splat(points, np.concatenate([RED, BLUE]), (40, 40), elevation=0, up=up, radius=3))
    rows, _ = np.nonzero(picture[:, :, 2] > 100)
    assert len(rows) and rows.max() < 10


def test_right_is_not_mirrored() -> None:
    """From above, with x to the right, y is up: x, y, z stay right-handed."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    colours = np.array([[9, 9, 9], [200, 0, 0], [0, 0, 200]], np.uint8)
    picture = np.asarray(splat(points, colours, (60, 60), azimuth=0, elevation=90, radius=4)).astype(int)
    red, blue = (np.argwhere(picture[:, :, c] > 100).mean(0) for c in (0, 2))
    assert red[1] > blue[1] + 20 and blue[0] < red[0] - 20


def test_nothing_is_where_no_point_is_and_edges_do_not_darken() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 1]])
    picture = np.asarray(splat(points, np.full((2, 3), 200, np.uint8), (80, 80), radius=4))
    assert picture[5, 5, 3] == 0 or picture[5, 75, 3] == 0
    faint = (picture[:, :, 3] > 20) & (picture[:, :, 3] < 255)
    assert faint.any() and picture[faint][:, :3].min() > 60


def test_two_groups_of_features_get_two_colours() -> None:
    random = np.random.default_rng(0)
    group = np.repeat([0, 1], 100)
    features = random.normal(0, 0.1, (200, 8)) + 5 * group[:, None] * random.normal(size=8)
    colours = pca_colours(features).astype(int)
    assert colours.shape == (200, 3)
    assert abs(colours[group == 0, 0].mean() - colours[group == 1, 0].mean()) > 150


def test_colours_do_not_hang_on_the_sign_of_a_component() -> None:
    features = np.random.default_rng(1).exponential(size=(300, 5))
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
    assert np.abs(pca_colours(features).astype(int) - pca_colours(features @ rotation)).max() <= 1


def test_labels_have_their_colours_and_none_is_grey() -> None:
    found = label_colours(np.array([0, 1, 0, -1]))
    assert (found[0] == found[2]).all() and not (found[0] == found[1]).all()
    assert np.ptp(found[3]) == 0


def test_an_embedded_picture_is_a_png() -> None:
    picture = splat(np.random.default_rng(0).normal(size=(20, 3)), np.full((20, 3), 80, np.uint8), (50, 30))
    data = embedded(picture, "told").split("base64,")[1].split('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (50, 30)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="do not fit"):
        splat(np.zeros((3, 3)), np.zeros((2, 3), np.uint8))
    with pytest.raises(BadInput, match="three components"):
        pca_colours(np.zeros((5, 2)))
