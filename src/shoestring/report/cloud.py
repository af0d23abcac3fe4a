"""Pictures of point clouds: splats from above and aside, coloured by what a network makes of the points.

Features are shown by their three principal components as red, green and blue, as DINO and Sonata show theirs: what
has one colour is one thing to the network. Depth is told by eye-dome lighting (Boucheny 2009): a pixel darkens by how
far it lies behind its neighbours.
"""

import base64
import io

import numpy as np
from numpy import ndarray
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.report.markup import Markup, element

_OVER = 2  # pixels drawn a pixel shown, along each axis
_DARKEN = 0.9


def pca_colours(features: ndarray) -> ndarray:
    """float [N, d], d >= 3, to colours uint8 [N, 3]: the three largest principal components, each from its 2 % to its
    98 % quantile. A component's sign is the one that makes its skew positive, so that a picture can be repeated."""
    if features.ndim != 2 or features.shape[1] < 3 or len(features) < 3:
        raise BadInput(f"picture: features {features.shape} have no three components; give [N >= 3, d >= 3]")
    centred = features.astype(np.float64) - features.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    found = centred @ axes[:, ::-1][:, :3]
    found *= np.where((found**3).sum(0) < 0, -1, 1)
    low, high = np.quantile(found, (0.02, 0.98), axis=0)
    shares = np.clip((found - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.round(40 + 200 * shares).astype(np.uint8)


def label_colours(labels: ndarray) -> ndarray:
    """int [N] to colours uint8 [N, 3] that are far apart and alike in lightness; labels below 0 are grey."""
    palette = np.array(
        [[38, 140, 130], [222, 148, 68], [112, 88, 168], [190, 66, 92], [84, 140, 66], [60, 120, 190], [150, 110, 70]],
        np.uint8,
    )
    return np.where(labels[:, None] < 0, np.uint8(150), palette[labels % len(palette)])


def splat(  # noqa: PLR0913 - a camera has this many settings
    points: ndarray,
    colours: ndarray,
    size: tuple[int, int] = (720, 480),
    azimuth: float = 35.0,
    elevation: float = 30.0,
    up: int = 2,
    radius: float | None = None,
) -> Image.Image:
    """Orthographic picture, RGBA on nothing, of `points` [N, 3] with `colours` uint8 [N, 3].

    `size`: (width, height) in pixels; `azimuth`, `elevation`: of the eye, degrees; `up`: the vertical axis; `radius`
    of a splat in pixels, by the density of the points unless given. Raises BadInput on other shapes."""
    if points.shape != (len(colours), 3) or not len(points) or not np.isfinite(points).all():
        raise BadInput(f"picture: points {points.shape} and colours {colours.shape} do not fit, or are not finite")
    width, height = (_OVER * side for side in size)
    place = _projected(points, azimuth, elevation, up)
    span = np.maximum(np.ptp(place[:, :2], axis=0), 1e-9)
    if radius is None:
        covered = min(width / span[0], height / span[1]) ** 2 * span[0] * span[1]
        radius = float(np.clip(0.9 * np.sqrt(covered / len(points)) / _OVER, 1, 7))
    border = radius * _OVER + 2
    scale = min((width - 2 * border) / span[0], (height - 2 * border) / span[1])
    middle = (place[:, :2].min(0) + place[:, :2].max(0)) / 2
    across = (place[:, 0] - middle[0]) * scale + width / 2
    down = (middle[1] - place[:, 1]) * scale + height / 2
    depth, owner = _covered(across, down, place[:, 2] * scale, radius * _OVER, (height, width))
    picture = np.zeros((height, width, 4), np.uint8)
    seen = owner >= 0
    picture[seen, :3] = np.round(colours[owner[seen]] * _lit(depth, seen, radius)[seen, None]).astype(np.uint8)
    picture[seen, 3] = 255
    # Colours times their cover, so that the edges of splats do not mix with black.
    return Image.fromarray(picture, "RGBA").convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")


def embedded(image: Image.Image, told: str) -> Markup:
    """The picture inside a page; `told` is what those get who cannot see it."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    size = {"width": image.width, "height": image.height}
    shown = element("img", src=f"data:image/png;base64,{data}", alt=told, class_="cloud", **size)
    return Markup(shown.removesuffix("</img>"))  # the one element here that HTML does not close


def _projected(points: ndarray, azimuth: float, elevation: float, up: int) -> ndarray:
    """[N, 3]: to the right, upwards, towards the eye."""
    x, y, z = (points[:, (up + shift) % 3].astype(np.float64) for shift in (1, 2, 3))
    a, e = np.radians((azimuth, elevation))
    aside, ahead = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
    return np.stack([aside, ahead * np.sin(e) + z * np.cos(e), z * np.sin(e) - ahead * np.cos(e)], axis=1)


def _covered(
    across: ndarray, down: ndarray, towards: ndarray, radius: float, shape: tuple[int, int]
) -> tuple[ndarray, ndarray]:
    """For each pixel the depth of the nearest splat, and its point or -1. Splats are half balls, so that those that
    touch meet in a line."""
    height, width = shape
    depth, owner = np.full(height * width, -np.inf), np.full(height * width, -1)
    order = np.argsort(towards, kind="stable")  # the last one that is written stays: the nearest
    x, y = np.round(across[order]).astype(int), np.round(down[order]).astype(int)
    reach = int(np.ceil(radius))
    for dx in range(-reach, reach + 1):
        for dy in range(-reach, reach + 1):
            left = radius**2 - dx**2 - dy**2
            if left < 0:
                continue
            inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
            pixel, near, point = ((y + dy) * width + x + dx)[inside], towards[order][inside], order[inside]
            near = near + np.sqrt(left)
            # Within one shift the nearest point of a pixel comes last; between shifts the depths decide.
            best, who = np.full(height * width, -np.inf), np.full(height * width, -1)
            best[pixel], who[pixel] = near, point
            nearer = best > depth
            depth[nearer], owner[nearer] = best[nearer], who[nearer]
    return depth.reshape(shape), owner.reshape(shape)


def _lit(depth: ndarray, seen: ndarray, radius: float) -> ndarray:
    """How bright each pixel is, 0 to 1: near edges are thin dark lines, far drops wide soft shadows."""
    behind = np.zeros_like(depth)
    for step in (1, 4, 12):
        far = 3 * step * radius  # pixels: a drop that darkens fully
        for dx, dy in ((step, 0), (-step, 0), (0, step), (0, -step)):
            beside = np.roll(depth, (dy, dx), (0, 1))
            both = seen & np.isfinite(beside)
            behind[both] += np.minimum(np.maximum(0, beside[both] - depth[both]) / far, 1)
    return np.exp(-_DARKEN * behind / 4)
