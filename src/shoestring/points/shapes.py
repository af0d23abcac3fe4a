"""Meshes that are made: boxes, frusta, tori, superquadrics, and things put together from them. Up is y."""

from collections.abc import Iterable, Sequence

import numpy as np

from shoestring.deploy.clouds.raw import Mesh

_AROUND = 24  # corners of what is round


def together(parts: Sequence[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    triangles = [part.triangles + start for part, start in zip(parts, starts, strict=False)]
    return Mesh(np.concatenate([part.vertices for part in parts]), np.concatenate(triangles))


def moved(mesh: Mesh, by: Sequence[float], matrix: np.ndarray | None = None) -> Mesh:
    """Turned by `matrix` [3, 3], then moved."""
    vertices = mesh.vertices if matrix is None else mesh.vertices @ matrix.T
    return Mesh(vertices + np.asarray(by, np.float64), mesh.triangles)


def box(wide: float, high: float, deep: float) -> Mesh:
    """Standing on y = 0."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0, 1) for z in (-0.5, 0.5)]) * (wide, high, deep)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return Mesh(corners, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def lathe(radii: Iterable[float], heights: Iterable[float]) -> Mesh:
    """A line of (radius, height) turned about y; radius 0 closes an end."""
    angles = np.arange(_AROUND) * 2 * np.pi / _AROUND
    circle = np.stack([np.cos(angles), np.zeros(_AROUND), np.sin(angles)], axis=1)
    rings = [circle * radius + (0, height, 0) for radius, height in zip(radii, heights, strict=True)]
    return Mesh(np.concatenate(rings), _grid(len(rings), _AROUND))


def frustum(below: float, above: float, high: float) -> Mesh:
    """A cylinder, a cone, or what is between, closed, standing on y = 0."""
    return lathe((0, below, above, 0), (0, 0, high, high))


def torus(radius: float, tube: float) -> Mesh:
    """Around y, its middle at 0."""
    angles = np.linspace(0, 2 * np.pi, _AROUND // 2 + 1)
    return lathe(radius + tube * np.cos(angles), tube * np.sin(angles))


def superquadric(wide: float, high: float, deep: float, tall: float, flat: float) -> Mesh:
    """Barr 1981: `tall`, `flat` are the exponents, 1 for round, towards 0 for square, 2 for a diamond."""
    v = np.linspace(-np.pi / 2, np.pi / 2, _AROUND // 2 + 1)[:, None]
    u = (np.arange(_AROUND) * 2 * np.pi / _AROUND)[None]
    x = wide / 2 * _power(np.cos(v), tall) * _power(np.cos(u), flat)
    z = deep / 2 * _power(np.cos(v), tall) * _power(np.sin(u), flat)
    y = high / 2 * _power(np.sin(v), tall) * np.ones_like(u)
    return Mesh(np.stack([x, y, z], axis=-1).reshape(-1, 3), _grid(len(v), _AROUND))


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.asarray(np.sign(values) * np.abs(values) ** exponent)


def _grid(rows: int, around: int) -> np.ndarray:
    """Triangles between rings of vertices, closed around."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(around), indexing="ij")
    a, b = (row * around + column).ravel(), (row * around + (column + 1) % around).ravel()
    return np.concatenate([np.stack([a, b, a + around], axis=1), np.stack([b, b + around, a + around], axis=1)])
