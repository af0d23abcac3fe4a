"""Polygon files: odd headers, mixed polygons, other elements; trimesh is the oracle where it is installed."""

import struct

import numpy as np
import pytest

from shoestring.deploy.clouds.ply import ply
from shoestring.deploy.clouds.raw import Mesh


def test_properties_in_any_order_among_others() -> None:
    """As scanners write them: doubles, colours, and elements before the vertices."""
    head = (
        b"ply\r\nformat binary_little_endian 1.0\r\nelement camera 1\r\nproperty float f\r\n"
        b"element vertex 2\r\nproperty uchar red\r\nproperty double z\r\nproperty double x\r\nproperty float32 y\r\n"
        b"end_header\r\n"
    )
    body = struct.pack("<f", 1) + b"".join(struct.pack("<Bddf", 9, *row) for row in ((3, 1, 2), (6, 4, 5)))
    found = ply(head + body)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 2, 3], [4, 5, 6]]


def quads(order: str, other: bool) -> bytes:
    """Five corners; a triangle and a quadrilateral, `other` with a list before the corners."""
    form = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    extra = "property list uchar float texcoord\n" if other else ""
    head = (
        f"ply\nformat {form} 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face 2\n{extra}property list uchar uint vertex_index\nproperty uchar flags\nend_header\n"
    )
    corners = np.arange(15, dtype=f"{order}f4").tobytes()
    before = struct.pack(f"{order}Bff", 2, 0, 0) if other else b""
    first = before + struct.pack(f"{order}B3IB", 3, 0, 1, 2, 7)
    return head.encode() + corners + first + before + struct.pack(f"{order}B4IB", 4, 1, 2, 3, 4, 7)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("other", [False, True])
def test_mixed_polygons(order: str, other: bool) -> None:
    found = ply(quads(order, other))
    assert isinstance(found, Mesh)
    assert found.vertices.ravel().tolist() == list(range(15))
    assert found.triangles.tolist() == [[0, 1, 2], [1, 2, 3], [1, 3, 4]]


def test_quadrilaterals_only_are_read_at_once() -> None:
    head = b"ply\nformat ascii 1.0\nelement vertex 4\nproperty int x\nproperty int y\nproperty int z\nelement face 1\n"
    head += b"property list uchar int vertex_indices\nend_header\n"
    text = ply(head + b"0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    binary = ply(
        head.replace(b"ascii", b"binary_little_endian")
        + np.array([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0], "<i4").tobytes()
        + struct.pack("<B4i", 4, 0, 1, 2, 3)
    )
    for found in (text, binary):
        assert isinstance(found, Mesh)
        assert found.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply", b"play", "no header"),
        (b"end_header", b"end", "no header"),
        (b"ascii", b"utf8", "unknown format"),
        (b"property float x", b"property float u", "no x, y, z"),
        (b"property float x", b"property list uchar float x", "no x, y, z"),
        (b"property float x", b"property half x", "property half x"),
        (b"element vertex", b"element point", "no element vertex"),
        (b"vertex_indices", b"corners", "without vertex_indices"),
        (b"element vertex 4", b"element vertex four", "no whole number"),
    ],
)
def test_odd_headers(old: bytes, new: bytes, message: str, made: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=message):
        ply(made["mesh.ply"].replace(old, new))


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_as_trimesh_writes_it(encoding: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.icosphere(1)
    found = ply(trimesh.exchange.ply.export_ply(mesh, encoding=encoding))
    assert isinstance(found, Mesh)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(found.triangles, mesh.faces)
