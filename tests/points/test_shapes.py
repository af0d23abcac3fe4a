"""Made meshes: areas and volumes that geometry knows, and no holes where there should be none."""

import numpy as np
import pytest

from shoestring.deploy.clouds.raw import Mesh
from shoestring.points.augment import turn
from shoestring.points.shapes import box, frustum, lathe, moved, superquadric, together, torus


def area(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def volume(mesh: Mesh) -> float:
    """By the divergence theorem, which is right for closed meshes whose triangles all look outwards."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    return abs(float((np.cross(a, b) * c).sum() / 6))


def test_box() -> None:
    mesh = box(1, 2, 3)
    assert area(mesh) == pytest.approx(2 * (2 + 3 + 6))
    assert volume(mesh) == pytest.approx(6)
    np.testing.assert_allclose([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)], [[-0.5, 0, -1.5], [0.5, 2, 1.5]])


def test_round_things() -> None:
    """Of 24 corners: at most 2 % below the smooth ones."""
    cylinder, cone = frustum(1, 1, 2), frustum(1, 0, 3)
    assert volume(cylinder) == pytest.approx(2 * np.pi, rel=0.02)
    assert area(cylinder) == pytest.approx(6 * np.pi, rel=0.02)
    assert volume(cone) == pytest.approx(np.pi, rel=0.02)
    ring = torus(1, 0.3)
    assert area(ring) == pytest.approx(4 * np.pi**2 * 0.3, rel=0.03)
    assert volume(ring) == pytest.approx(2 * np.pi**2 * 0.09, rel=0.06)
    ball = superquadric(2, 2, 2, 1, 1)
    np.testing.assert_allclose(np.linalg.norm(ball.vertices, axis=1), 1, atol=1e-12)
    assert volume(ball) == pytest.approx(4 / 3 * np.pi, rel=0.04)


def test_superquadrics_keep_their_equation() -> None:
    """Barr 1981, equation 2.15: 1 on the surface."""
    tall, flat = 0.5, 1.4
    x, y, z = (np.abs(superquadric(2, 4, 6, tall, flat).vertices) / (1, 2, 3)).T
    inside = (x ** (2 / flat) + z ** (2 / flat)) ** (flat / tall) + y ** (2 / tall)
    np.testing.assert_allclose(inside, 1, atol=1e-9)


def test_put_together() -> None:
    both = together([box(1, 1, 1), moved(box(1, 1, 1), (5, 0, 0), turn(1, 0.3))])
    assert area(both) == pytest.approx(12)
    assert both.triangles.max() == 15
    assert both.vertices[:, 0].max() > 5
    assert lathe([1, 1], [0, 1]).triangles.shape == (48, 3)
