"""Small files of every format, written by hand: bytes by suffix."""

import io
import struct

import numpy as np
import pytest

POINTS = np.array([[0.5, -1.25, 2], [3, 4, 5], [-6.5, 7, 8], [9, -10, 11.75]])
TETRAHEDRON = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])


@pytest.fixture(scope="session")
def points() -> np.ndarray:
    return POINTS


@pytest.fixture(scope="session")
def made() -> dict[str, bytes]:
    """The four POINTS, or for a mesh the tetrahedron of them, by a name that ends in the suffix."""
    rows = "\n".join(" ".join(map(str, row)) for row in POINTS)
    faces = "\n".join("3 " + " ".join(map(str, row)) for row in TETRAHEDRON)
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    head = f"ply\nformat {{}} 1.0\ncomment made\nelement vertex 4\n{axes}"
    list_ = "element face 4\nproperty list uchar int vertex_indices\n"
    pcd = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 4\nHEIGHT 1\nPOINTS 4\nDATA {}\n"
    columns = POINTS.T.astype("<f4").tobytes()
    literal = b"".join(bytes([len(part) - 1]) + part for part in (columns[:32], columns[32:]))
    corners = POINTS[TETRAHEDRON].astype("<f4")
    solid = b"".join(struct.pack("<3f", 0, 0, 0) + corner.tobytes() + b"\0\0" for corner in corners)
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}\n" for x, y, z in corner)
        + "endloop\nendfacet\n"
        for corner in POINTS[TETRAHEDRON]
    )
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, POINTS)
    np.savez(npz, points=POINTS, other=np.zeros(3))
    packed = b"".join(b"\x03" + row.astype("<i4").tobytes() for row in TETRAHEDRON)
    packed_big = b"".join(b"\x03" + row.astype(">i4").tobytes() for row in TETRAHEDRON)
    return {
        "text.ply": f"{head.format('ascii')}end_header\n{rows}\n".encode(),
        "mesh.ply": f"{head.format('ascii')}{list_}end_header\n{rows}\n{faces}\n".encode(),
        "little.ply": f"{head.format('binary_little_endian')}{list_}end_header\n".encode()
        + POINTS.astype("<f4").tobytes()
        + packed,
        "big.ply": f"{head.format('binary_big_endian')}{list_}end_header\n".encode()
        + POINTS.astype(">f4").tobytes()
        + packed_big,
        "text.pcd": f"{pcd.format('ascii')}{rows}\n".encode(),
        "binary.pcd": pcd.format("binary").encode() + POINTS.astype("<f4").tobytes(),
        "packed.pcd": pcd.format("binary_compressed").encode() + struct.pack("<II", len(literal), 48) + literal,
        "a.xyz": f"{rows}\n".encode(),
        "a.csv": ("x,y,z\n" + rows.replace(" ", ",") + "\n").encode(),
        "a.pts": f"4\n{rows}\n".encode(),
        "a.npy": npy.getvalue(),
        "a.npz": npz.getvalue(),
        "a.bin": np.hstack([POINTS, np.full((4, 1), 0.5)]).astype("<f4").tobytes(),
        "six.bin": np.hstack([POINTS, np.full((4, 3), 0.5)]).astype("<f4").tobytes(),
        "a.off": f"OFF\n4 4 6\n{rows}\n{faces}\n".encode(),
        "a.obj": "".join(f"v {x} {y} {z}\n" for x, y, z in POINTS).encode()
        + "".join(f"f {a + 1}/1 {b + 1}/1/1 {c - 4}\n" for a, b, c in TETRAHEDRON).encode(),
        "binary.stl": b"\0" * 80 + struct.pack("<I", 4) + solid,
        "text.stl": f"solid a\n{facets}endsolid a\n".encode(),
    }
