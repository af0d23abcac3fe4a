"""Shapes for `--demo`: made, not found, so that their labels are exact and nothing has to be installed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shoestring.deploy.clouds.mesh import surface
from shoestring.deploy.clouds.raw import Mesh
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.augment import turn
from shoestring.points.shapes import box, frustum, lathe, moved, superquadric, together, torus

POINTS = 2048
EACH = 40  # shapes of a class
_NOISE = 0.01  # of a shape's size, like that of a good depth camera
_QUARTER = turn(0, np.pi / 2)


def _table(u: Callable[[float, float], float]) -> Mesh:
    wide, deep, high, leg = u(0.8, 1.6), u(0.6, 1.0), u(0.5, 0.9), u(0.04, 0.1)
    return together([*_legs(wide, deep, high, leg), moved(box(wide, u(0.03, 0.08), deep), (0, high, 0))])


def _chair(u: Callable[[float, float], float]) -> Mesh:
    wide, deep, high, back = u(0.4, 0.6), u(0.4, 0.6), u(0.35, 0.5), u(0.3, 0.6)
    seat = moved(box(wide, 0.05, deep), (0, high, 0))
    rest = moved(box(wide, back, 0.05), (0, high, -deep / 2))
    return together([*_legs(wide, deep, high, u(0.03, 0.07)), seat, rest])


def _stool(u: Callable[[float, float], float]) -> Mesh:
    wide, high = u(0.3, 0.45), u(0.4, 0.75)
    return together(
        [*_legs(0.75 * wide, 0.75 * wide, high, u(0.03, 0.06)), moved(frustum(wide / 2, wide / 2, 0.05), (0, high, 0))]
    )


def _shelf(u: Callable[[float, float], float]) -> Mesh:
    wide, high, deep, boards = u(0.5, 1.1), u(1.0, 2.0), u(0.25, 0.4), round(u(3, 6))
    sides = [moved(box(0.03, high, deep), (side * wide / 2, 0, 0)) for side in (-1, 1)]
    return together(sides + [moved(box(wide, 0.03, deep), (0, i * high / (boards - 1), 0)) for i in range(boards)])


def _bed(u: Callable[[float, float], float]) -> Mesh:
    wide, long, high = u(0.9, 1.8), u(1.8, 2.1), u(0.25, 0.45)
    head = moved(box(wide, u(0.6, 1.1), 0.08), (0, 0, -long / 2))
    return together([*_legs(wide, long, 0.15, 0.08), moved(box(wide, high, long), (0, 0.15, 0)), head])


def _lamp(u: Callable[[float, float], float]) -> Mesh:
    high, shade = u(0.4, 1.6), u(0.15, 0.3)
    foot, pole = frustum(u(0.1, 0.2), 0.05, 0.04), frustum(0.015, 0.015, high)
    return together([foot, pole, moved(lathe((shade, u(0.3, 0.8) * shade), (0, u(0.15, 0.35))), (0, 0.8 * high, 0))])


def _mug(u: Callable[[float, float], float]) -> Mesh:
    radius, high = u(0.035, 0.05), u(0.07, 0.12)
    wall = lathe((0, radius, u(0.9, 1.1) * radius), (0, 0, high))
    return together([wall, moved(torus(0.3 * high, 0.006), (1.1 * radius, high / 2, 0), _QUARTER)])


def _bottle(u: Callable[[float, float], float]) -> Mesh:
    radius, high, neck = u(0.03, 0.05), u(0.2, 0.32), u(0.25, 0.45)
    shoulder = u(0.5, 0.7) * high
    return lathe((0, radius, radius, neck * radius, neck * radius, 0), (0, 0, shoulder, 1.25 * shoulder, high, high))


def _vase(u: Callable[[float, float], float]) -> Mesh:
    heights = np.linspace(0, 1, 9)
    belly, phase = u(0.2, 0.45), u(0.0, 1.2)
    radii = 0.12 + belly * 0.5 * (1 + np.sin(phase + 4.5 * heights)) * 0.7
    return lathe((0, *radii), (0, *heights * u(0.7, 1.2)))


def _ring(u: Callable[[float, float], float]) -> Mesh:
    return torus(1.0, u(0.15, 0.45))


def _pillow(u: Callable[[float, float], float]) -> Mesh:
    return superquadric(u(0.4, 0.6), u(0.1, 0.2), u(0.4, 0.6), u(0.8, 1.1), u(0.2, 0.45))


def _ball(u: Callable[[float, float], float]) -> Mesh:
    return superquadric(1.0, u(0.85, 1.2), u(0.85, 1.2), u(0.9, 1.1), u(0.9, 1.1))


CLASSES: dict[str, Callable[[Callable[[float, float], float]], Mesh]] = {
    "ball": _ball,
    "bed": _bed,
    "bottle": _bottle,
    "chair": _chair,
    "lamp": _lamp,
    "mug": _mug,
    "pillow": _pillow,
    "ring": _ring,
    "shelf": _shelf,
    "stool": _stool,
    "table": _table,
    "vase": _vase,
}


@dataclass(frozen=True)
class Shape:
    """Number `number` of the class `name`, of `points` points: proportions, heading and noise are its own."""

    name: str
    number: int
    points: int = POINTS

    def open(self) -> np.ndarray:
        """float32 [points, 3], metres or so, y up."""
        return _made(self.name, self.number, self.points)

    def content(self) -> bytes:
        return self.open().tobytes()


def demo_shapes(each: int = EACH, points: int = POINTS) -> Dataset:
    """Twelve classes of `each` shapes, the same on every machine to within rounding."""
    items = (
        Item(Shape(name, number, points), target, f"{name} {number}")
        for target, name in enumerate(CLASSES)
        for number in range(each)
    )
    return Dataset(tuple(items), tuple(CLASSES))


@lru_cache(maxsize=1024)
def _made(name: str, number: int, count: int) -> np.ndarray:
    rng = np.random.default_rng([list(CLASSES).index(name), number])
    mesh = CLASSES[name](lambda low, high: float(rng.uniform(low, high)))
    points = surface(mesh, count, seed=number) @ turn(1, rng.uniform(0, 2 * np.pi)).T
    size = float((points.max(axis=0) - points.min(axis=0)).max())
    found = (points + _NOISE * size * rng.standard_normal(points.shape)).astype(np.float32)
    found.setflags(write=False)
    return found


def _legs(wide: float, deep: float, high: float, thick: float) -> list[Mesh]:
    places = [(x * (wide - thick) / 2, 0, z * (deep - thick) / 2) for x in (-1, 1) for z in (-1, 1)]
    return [moved(box(thick, high, thick), place) for place in places]
