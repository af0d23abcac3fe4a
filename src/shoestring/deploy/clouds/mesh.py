"""Meshes: `.off`, `.obj`, `.stl`, and points on their surface."""

import io
import re
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import MAX_TRIANGLES, Mesh, require_count, whole
from shoestring.deploy.clouds.text import fan, indices, numbers, polygons

SAMPLES = 8192  # points on a surface
_OFF = re.compile(rb"\s*(?:ST|C|N)*OFF(?:[ \t]+BINARY)?", re.IGNORECASE)
_OBJ = re.compile(rb"^[ \t]*([vf])[ \t]+(.*)$", re.MULTILINE)
_STL = re.compile(rb"^\s*vertex[ \t]+(.*)$", re.MULTILINE)
_PLASTIC = 1.32471795724474602596  # the root of x^3 = x + 1


def off(data: bytes) -> Mesh:
    """Object file format, as ModelNet40 has it: some of its files lack the line break after OFF."""
    head = _OFF.match(data[:64])
    if head is None or b"BINARY" in head.group().upper():
        raise ValueError("no header of a text off file")
    lines = io.BytesIO(data[head.end() :])
    for line in lines:
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
    else:
        raise ValueError("the counts are missing")
    words = line.split()
    if len(words) < 2:
        raise ValueError("the counts are missing")
    corners, faces = whole(words[0]), whole(words[1])
    require_count(corners, 6, len(data), "corners")
    require_count(faces, 4, len(data), "faces")
    vertices = numbers(lines, (0, 1, 2), corners)
    kept = list(islice((line for line in lines if line.strip()), faces))
    if len(kept) < faces:
        raise ValueError("the file ends before its faces")
    return Mesh(vertices, polygons(kept))


def obj(data: bytes) -> Mesh:
    """Wavefront: corners and faces only; no other file is opened."""
    corners: list[bytes] = []
    triangles: list[tuple[int, int, int]] = []
    for match in _OBJ.finditer(data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")):
        kind, rest = match.groups()
        if kind == b"v":
            corners.append(rest)
            continue
        places = [int(word.partition(b"/")[0]) for word in rest.split() if not word.startswith(b"#")]
        # From 1, or from the last corner backwards.
        triangles += fan([place - 1 if place > 0 else len(corners) + place for place in places])
        if len(triangles) > MAX_TRIANGLES:
            raise ValueError(f"more than {MAX_TRIANGLES} triangles")
    faces = np.array(triangles, np.float64).reshape(-1, 3)
    return Mesh(numbers(corners, (0, 1, 2)), indices(faces))


def stl(data: bytes) -> Mesh:
    """Binary when its length is what its count says, else text."""
    count = int.from_bytes(data[80:84], "little")
    if len(data) >= 84 and len(data) == 84 + 50 * count:
        row = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
        vertices = np.frombuffer(data, row, count, 84)["corners"].reshape(-1, 3).astype(np.float64)
    else:
        vertices = numbers(_STL.findall(data), (0, 1, 2))
    if not len(vertices) or len(vertices) % 3:
        raise ValueError(f"{len(vertices)} corners are no triangles")
    return Mesh(vertices, np.arange(len(vertices)).reshape(-1, 3))


def surface(mesh: Mesh, count: int = SAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """[count, 3]: points on the surface, each part with a share that is its area; the vertices, where there is none.

    No random numbers, and so the same with every version of NumPy: equal steps along the triangles, laid end to end by
    area (systematic sampling), and inside each the R2 sequence (Roberts 2018), folded into the triangle. `seed` moves
    both. Raises ValueError for a triangle with a corner that is not there.
    """
    triangles, vertices = mesh.triangles, mesh.vertices
    if len(triangles) > MAX_TRIANGLES:
        raise ValueError(f"{len(triangles)} triangles, {MAX_TRIANGLES} at most")
    if len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError("a face has a corner that is not there")
    with np.errstate(invalid="ignore", over="ignore"):
        first = vertices[triangles[:, 0]]
        along_b, along_c = vertices[triangles[:, 1]] - first, vertices[triangles[:, 2]] - first
        areas = np.linalg.norm(np.cross(along_b, along_c), axis=1) / 2
    areas[~np.isfinite(areas)] = 0
    total = areas.sum()
    if not 0 < total < np.inf:
        return vertices
    along = (np.arange(count) + (0.5 + seed / _PLASTIC) % 1) / count
    chosen = np.searchsorted(np.cumsum(areas) / total, along, side="right").clip(max=np.flatnonzero(areas)[-1])
    steps = np.arange(1, count + 1)[:, None] / np.array([_PLASTIC, _PLASTIC**2])
    part = (0.5 + seed * 0.618033988749895 + steps) % 1
    part = np.where(part.sum(axis=1, keepdims=True) > 1, 1 - part, part)
    return first[chosen] + part[:, :1] * along_b[chosen] + part[:, 1:] * along_c[chosen]
