"""Meshes, and the points on their surface: areas, distances, the same every time."""

import numpy as np
import pytest

from shoestring.deploy.clouds.mesh import obj, off, stl, surface
from shoestring.deploy.clouds.raw import Mesh

SQUARE = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n",
        "OFF4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n",  # as some of ModelNet40
        "# a\nCOFF\n# b\n\n4 1 0\n0 0 0 9 9 9\n1 0 0 9 9 9\n1 1 0 9 9 9\n0 1 0 9 9 9\n\n4 0 1 2 3 0.5 0.5 0.5\n",
    ],
)
def test_off(text: str) -> None:
    found = off(text.removeprefix("# a\n").encode())
    np.testing.assert_array_equal(found.vertices, SQUARE.vertices)
    np.testing.assert_array_equal(found.triangles, SQUARE.triangles)


@pytest.mark.parametrize(
    "text", ["OF", "OFF BINARY\n", "OFF\n", "OFF\n#\n", "OFF\n4\n", "OFF\n1 2 0\n0 0 0\n3 0 0 0\n"]
)
def test_broken_off(text: str) -> None:
    with pytest.raises(ValueError, match=r"header|counts|promised|ends before"):
        off(text.encode())


def test_obj() -> None:
    """Places from the end, textures, a line that goes on, corners after a face."""
    text = "mtllib x.mtl\nv 0 0 0\nv 1 0 0 1.0\n  v 1 1 0\nf -3 -2 -1\nv 0 1 0\nvn 0 0 1\nf 1/1 3//2 \\\n4/1/1 # last\n"
    found = obj(text.encode())
    np.testing.assert_array_equal(found.vertices, SQUARE.vertices)
    np.testing.assert_array_equal(found.triangles, SQUARE.triangles)
    with pytest.raises(ValueError, match="ends before"):
        obj(b"# nothing\n")


def test_stl_that_is_neither() -> None:
    with pytest.raises(ValueError, match="4 corners are no triangles"):
        stl(b"vertex 0 0 0\n" * 4)


def test_each_part_has_the_share_of_its_area() -> None:
    """A square in triangles of very different areas: every tenth of it has a tenth of the points, to within 1 %."""
    cuts = np.cumsum([0, 0.001, 0.01, 0.05, 0.2, 0.739])
    vertices = np.array([[x, y, 0] for x in cuts for y in (0, 1)])
    triangles = [[2 * i + a, 2 * i + b, 2 * i + c] for i in range(5) for a, b, c in ((0, 2, 3), (0, 3, 1))]
    found = surface(Mesh(vertices, np.array(triangles)), 10_000)
    assert found[:, 2].tolist() == [0] * 10_000
    for axis in (0, 1):
        counts = np.histogram(found[:, axis], 10, (0, 1))[0]
        assert (np.abs(counts - 1000) < 100).all()
    # Far more even than chance (the deviation of a cell of 20 x 20 would be 5).
    assert np.histogram2d(found[:, 0], found[:, 1], 20, ((0, 1), (0, 1)))[0].std() < 3


def test_seeds() -> None:
    first, again, other = surface(SQUARE, 50, 3), surface(SQUARE, 50, 3), surface(SQUARE, 50, 4)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first[:, None], other[None]).all(axis=2).any()
    assert ((first >= 0) & (first <= 1)).all()


def test_without_a_surface_its_corners() -> None:
    flat = Mesh(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), np.array([[0, 1, 2]]))
    assert surface(flat, 10) is flat.vertices
    points = Mesh(flat.vertices, np.empty((0, 3), np.int64))
    assert surface(points, 10) is flat.vertices


def test_broken_triangles() -> None:
    for corner in (-1, 4):
        with pytest.raises(ValueError, match="a corner that is not there"):
            surface(Mesh(SQUARE.vertices, np.array([[0, 1, corner]])))
    broken = Mesh(np.vstack([SQUARE.vertices, [[np.nan, 0, 0]]]), np.array([[0, 1, 2], [0, 1, 4]]))
    assert np.isfinite(surface(broken, 100)).all()
    with pytest.raises(ValueError, match="triangles, 4194304 at most"):
        surface(Mesh(SQUARE.vertices, np.broadcast_to(np.int64(0), (2**22 + 1, 3))))


@pytest.mark.parametrize(("form", "reader"), [("off", off), ("obj", obj), ("stl", stl), ("stl_ascii", stl)])
def test_as_trimesh_writes_it(form: str, reader) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.icosphere(1)
    exported = mesh.export(file_type=form)
    found = reader(exported.encode() if isinstance(exported, str) else exported)
    np.testing.assert_allclose(found.vertices[found.triangles], mesh.triangles, atol=1e-6)
