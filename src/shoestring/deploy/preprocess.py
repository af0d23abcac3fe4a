"""Preprocessing: one raw input to one network input. Training and deployment call this same function.

The spec is JSON, so that it travels inside the artifact:

    {"kind": "image", "resize": 256, "interpolation": "bicubic", "crop": [224, 224],
     "mean": [127, 127, 127], "std": [128, 128, 128]}

resizes the short side to `resize` keeping the ratio (null: no resizing, the image must have the crop's size), cuts the
centre `crop` [H, W], and returns `(x - mean) / std` of the RGB values in 0..255 units. Rounding is torchvision's.

    {"kind": "tensor", "shape": [3, 224, 224]}

takes a float array of that shape as it is.

    {"kind": "points", "points": 1024, "centre": "mean", "scale": "sphere", "up": "y"}

shows so many points of a point cloud; `cloud_spec.py` says which, and what becomes 0 and 1.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shoestring.core.errors import BadInput
from shoestring.deploy import cloud_spec

MAX_SIDE = 4096  # of `resize` and `crop`
MAX_PIXELS = 89_478_485  # of a photograph, before and after resizing: where Pillow starts to warn of a bomb (256 MiB)
MAX_ELEMENTS = 2**26  # of a tensor: 256 MiB in float32
# EPS and the rare formats are left out: they start programs or are seldom tested.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_KEYS = {
    "image": {"kind", "resize", "interpolation", "crop", "mean", "std"},
    "tensor": {"kind", "shape"},
    "points": cloud_spec.KEYS,
}


def preprocess(spec: Mapping[str, Any], image: Image.Image | str | Path | NDArray[Any]) -> NDArray[np.float32]:
    """The network input of one raw input, without a batch axis: float32 [3, H, W] for images, [points, 3] for point
    clouds, `shape` for tensors.

    `image`: a PIL image of any mode but float, a path, or uint8 [H, W, 3] in RGB; for a tensor spec, a float array; for
    points, a path or a float array [n, 3 or more]. Raises BadInput when the spec or the input cannot be used.
    """
    check_spec(spec)
    if spec["kind"] == "tensor":
        return _tensor(spec, image)
    if spec["kind"] == "points":
        return cloud_spec.arranged(spec, image)
    return normalise(spec, framed(spec, image))


def decoded(spec: Mapping[str, Any], raw: Any) -> Any:
    """What `preprocess` makes of `raw` first, for those who call it several times: the photograph, or the points of a
    cloud; an array for a tensor spec is what it is. Raises BadInput when it cannot be read."""
    if spec["kind"] == "tensor":
        return raw
    return photograph(raw) if spec["kind"] == "image" else cloud_spec.cloud(raw)


def framed(spec: Mapping[str, Any], image: Image.Image | str | Path | NDArray[Any]) -> NDArray[np.uint8]:
    """The pixels the network is shown, uint8 [H, W, 3]: resized and cut out. For image specs that were checked."""
    height, width = spec["crop"]
    resized = _resize(spec, photograph(image))
    left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def normalise(spec: Mapping[str, Any], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [..., H, W, 3] to the float32 [..., 3, H, W] that the network takes."""
    scaled = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
    scaled -= np.array(spec["mean"], np.float32)[:, None, None]
    scaled /= np.array(spec["std"], np.float32)[:, None, None]
    return scaled


def at_size(spec: Mapping[str, Any], shape: Sequence[int]) -> Mapping[str, Any]:
    """`spec` for a network that takes [3, H, W] = `shape`: the same part of a photograph, at another size; or [points,
    3]: another number of points. Raises BadInput when that is no other size of what `spec` gives."""
    if list(shape) == input_shape(spec):
        return spec
    if spec["kind"] == "points" and len(shape) == 2 and shape[1] == 3:
        fewer = {**spec, "points": shape[0]}
        check_spec(fewer)
        return fewer
    if spec["kind"] != "image" or len(shape) != 3 or shape[0] != 3:
        raise BadInput(f"preprocess: gives {input_shape(spec)} where the network takes {list(shape)}")
    height, width = shape[1:]
    ratio = max(height / spec["crop"][0], width / spec["crop"][1])
    # Without resizing the image had the crop's size, so its short side was the crop's.
    before = min(spec["crop"]) if spec["resize"] is None else spec["resize"]
    resize = max(round(before * ratio), min(height, width))
    other = {**spec, "resize": resize, "crop": [height, width]}
    check_spec(other)
    return other


def input_shape(spec: Mapping[str, Any]) -> list[int]:
    """What `preprocess` gives, without a batch axis."""
    if spec["kind"] == "points":
        return [spec["points"], 3]
    return list(spec["shape"]) if spec["kind"] == "tensor" else [3, *spec["crop"]]


def check_spec(spec: Any) -> None:
    """Raises BadInput unless `preprocess` can run `spec` within bounded memory. `spec` may come from a stranger."""
    if not isinstance(spec, Mapping):
        raise BadInput(f"preprocess: the spec is a {type(spec).__name__}; give a JSON object")
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise BadInput(f"preprocess: kind {_short(kind)} is unknown; known are {', '.join(_KEYS)}")
    if set(spec) != _KEYS[kind]:
        raise BadInput(f"preprocess: kind {kind!r} takes exactly the keys {', '.join(sorted(_KEYS[kind]))}")
    if kind == "tensor":
        _check_tensor_spec(spec)
    elif kind == "points":
        cloud_spec.check_points_spec(spec)
    else:
        _check_image_spec(spec)


def open_image(path: str | Path) -> Image.Image:
    """The photograph at `path`, loaded, upright and in RGB. Raises BadInput when it is not one or cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _upright_rgb(image, str(path))
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadInput(f"{path}: more than {MAX_PIXELS} pixels; scale it down first") from None
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except Exception as error:  # Pillow's decoders raise many types on broken files
        raise BadInput(f"{path}: not a readable image ({_line(error)}); give one of {', '.join(_FORMATS)}") from None


def photograph(image: Image.Image | str | Path | NDArray[Any]) -> Image.Image:
    """What `preprocess` takes for an image, upright and in RGB. Raises BadInput when it is none."""
    if isinstance(image, str | Path):
        return open_image(image)
    if isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or "the image"
        try:
            return _upright_rgb(image, str(name))
        except (OSError, ValueError, SyntaxError) as error:
            raise BadInput(f"{name}: not a readable image ({_line(error)})") from None
    if _is_rgb(image):
        return Image.fromarray(np.ascontiguousarray(image))
    raise BadInput(f"preprocess: cannot read {_kind(image)}; give a PIL image, a path or uint8 [H, W, 3]")


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Turned as EXIF says, transparency dropped, 16 bits reduced to the upper 8 as Pillow does for colour."""
    if image.width * image.height > MAX_PIXELS:
        raise BadInput(f"{name}: {image.width}x{image.height} is more than {MAX_PIXELS} pixels; scale it down first")
    if image.mode == "F":
        raise BadInput(f"{name}: float pixels have no fixed range; save it with 8 or 16 bits")
    image.load()
    with contextlib.suppress(Exception):  # broken EXIF says nothing about the orientation, and the pixels are good
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when it has to guess this step
    return image if image.mode == "RGB" else image.convert("RGB")


def _resize(spec: Mapping[str, Any], image: Image.Image) -> Image.Image:
    height, width = spec["crop"]
    if spec["resize"] is None:
        if (image.height, image.width) != (height, width):
            raise BadInput(f"preprocess: got {image.height}x{image.width} where {height}x{width} is taken; resize it")
        return image
    short = min(image.size)
    size = int(spec["resize"] * image.width / short), int(spec["resize"] * image.height / short)
    if size[0] * size[1] > MAX_PIXELS:
        raise BadInput(f"preprocess: {image.width}x{image.height} is too long and thin to resize; crop it first")
    return image if size == image.size else image.resize(size, FILTERS[spec["interpolation"]])


def _tensor(spec: Mapping[str, Any], array: Any) -> NDArray[np.float32]:
    shape = tuple(spec["shape"])
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.shape != shape:
        raise BadInput(f"preprocess: got {_kind(array)}; this model takes a float array {list(shape)}")
    return np.ascontiguousarray(array, np.float32)


def _check_tensor_spec(spec: Mapping[str, Any]) -> None:
    shape = spec["shape"]
    if not _integers(shape, MAX_ELEMENTS) or not 1 <= len(shape) <= 4 or math.prod(shape) > MAX_ELEMENTS:
        raise BadInput(f"preprocess: shape {_short(shape)} is not 1 to 4 sizes of {MAX_ELEMENTS} elements at most")


def _check_image_spec(spec: Mapping[str, Any]) -> None:
    resize, interpolation, crop = spec["resize"], spec["interpolation"], spec["crop"]
    if resize is not None and not _integers([resize], MAX_SIDE):
        raise BadInput(f"preprocess: resize {_short(resize)} is neither null nor a whole number in 1..{MAX_SIDE}")
    if not isinstance(interpolation, str) or interpolation not in FILTERS:
        raise BadInput(f"preprocess: interpolation {_short(interpolation)} is unknown; known are {', '.join(FILTERS)}")
    if not _integers(crop, MAX_SIDE) or len(crop) != 2:
        raise BadInput(f"preprocess: crop {_short(crop)} is not [H, W] in 1..{MAX_SIDE}")
    if resize is not None and max(crop) > resize:
        raise BadInput(f"preprocess: crop {list(crop)} is larger than resize {resize}; resize to at least {max(crop)}")
    for name, low in (("mean", -1e6), ("std", 1e-6)):
        values = spec[name]
        if not _sequence(values) or len(values) != 3 or not all(_number(value, low, 1e6) for value in values):
            raise BadInput(f"preprocess: {name} {_short(values)} is not three numbers in {low:g}..1e6")


def _integers(values: Any, high: int) -> bool:
    return _sequence(values) and all(type(value) is int and 1 <= value <= high for value in values)


def _number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high  # NaN compares false


def _sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_rgb(image: Any) -> bool:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        return False
    return image.shape[2] == 3 and 0 < image.size <= 3 * MAX_PIXELS


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    return repr(value)[:60]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
