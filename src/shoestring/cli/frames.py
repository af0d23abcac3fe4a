"""What `run` is given: photographs, point clouds, arrays, folders and videos, as frames one after the other."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from shoestring.core.errors import BadInput

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".npy"}
_VIDEOS = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"}
_KEPT = 32  # photographs that are decoded once when they are walked again and again


def inputs_of(given: Path, kind: str = "image") -> list[Path]:
    """The files that an input stands for, where a network takes what its preprocessing of `kind` makes of them. Raises
    BadInput when it is not there or a folder without any."""
    if given.is_dir():
        noun, suffixes = ("image", _SUFFIXES) if kind != "points" else ("point cloud", _clouds())
        found = sorted(path for path in given.rglob("*") if path.suffix.lower() in suffixes)
        if not found:
            raise BadInput(f"{given}: holds no {noun} ({', '.join(sorted(suffixes))})")
        return found
    if not given.exists():
        raise BadInput(f"{given}: there is no such file or folder")
    return [given]


def is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEOS


def opened(path: Path, kind: str = "image") -> Any:
    """What a network is given of a file that is no video: the path of a photograph or a cloud, or a float array."""
    if path.suffix.lower() != ".npy" or kind == "points":
        return path
    import numpy as np  # only arrays need it here

    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # a broken file makes numpy raise many types
        raise BadInput(f"{path}: is no .npy array: {error}") from None


def frames(paths: Sequence[Path], count: int | None, kind: str = "image") -> Iterator[tuple[str, Any]]:
    """(name, decoded frame) pairs: uint8 [H, W, 3] of a video, PIL images, points, float arrays; a BadInput
    instead of a frame that cannot be read. `count`: as many, walking the inputs again and again; None walks them once.
    `kind`: see `inputs_of`."""
    decode = lru_cache(_KEPT)(_decoded)

    def walk() -> Iterator[tuple[str, Any]]:
        for path in cycle(paths) if count else paths:
            if is_video(path):
                yield from ((f"{path}#{index}", frame) for index, frame in enumerate(_video(path)))
            else:
                yield str(path), decode(path, kind)

    return islice(walk(), count)


def _decoded(path: Path, kind: str) -> Any:
    from shoestring.deploy.cloud_spec import cloud  # loads numpy and Pillow
    from shoestring.deploy.preprocess import open_image

    try:
        if kind == "points":
            return cloud(path)
        return opened(path, kind) if path.suffix.lower() == ".npy" else open_image(path)
    except BadInput as error:
        return error


def _clouds() -> frozenset[str]:
    from shoestring.deploy.clouds.read import IN_FOLDERS  # loads numpy

    return IN_FOLDERS


def _video(path: Path) -> Iterator[Any]:
    """uint8 [H, W, 3] in RGB, frame by frame. Raises BadInput without PyAV, and for a file that it cannot decode."""
    try:
        import av
    except ModuleNotFoundError:
        raise BadInput(f'{path}: a video needs PyAV; pip install "shoestring[video]"') from None
    shown = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
                shown += 1
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"{path}: not a readable video after {shown} frames ({reason})") from None
    if not shown:
        raise BadInput(f"{path}: holds no frame")
