"""Preprocessing against PIL and NumPy by hand."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.deploy import preprocess as module
from shoestring.deploy.preprocess import at_size, check_spec, framed, normalise, open_image, preprocess

SPEC = {
    "kind": "image",
    "resize": 40,
    "interpolation": "bicubic",
    "crop": [32, 24],
    "mean": [127, 120, 100],
    "std": [128, 60.5, 50],
}
AS_IS = {**SPEC, "resize": None, "crop": [6, 8], "mean": [0, 0, 0], "std": [1, 1, 1]}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(60, 90), (91, 53), (40, 77), (40, 40), (13, 200), (7, 5)])
def test_is_resize_crop_normalise(height: int, width: int, interpolation: str) -> None:
    pixels = picture(height, width)
    short = min(height, width)
    size = (int(40 * width / short), int(40 * height / short))
    kind = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    resized = np.asarray(Image.fromarray(pixels).resize(size, kind)).astype(np.float32)
    top, left = round((resized.shape[0] - 32) / 2), round((resized.shape[1] - 24) / 2)
    expected = np.empty((3, 32, 24), np.float32)
    for channel, (mean, std) in enumerate(zip(SPEC["mean"], SPEC["std"], strict=True)):
        expected[channel] = (resized[top : top + 32, left : left + 24, channel] - mean) / np.float32(std)
    got = preprocess({**SPEC, "interpolation": interpolation}, pixels)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, expected)


def test_a_batch_is_normalised_as_each_of_its_pictures() -> None:
    pictures = [picture(50, 61, seed) for seed in range(6)]
    pixels = np.stack([framed(SPEC, each) for each in pictures]).reshape(2, 3, 32, 24, 3)
    assert pixels.dtype == np.uint8
    got = normalise(SPEC, pixels)
    assert (got.shape, got.dtype) == ((2, 3, 3, 32, 24), np.float32)
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got.reshape(6, 3, 32, 24), [preprocess(SPEC, each) for each in pictures])


def test_array_pil_and_path_agree(tmp_path: Path) -> None:
    pixels = picture(50, 61)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    expected = preprocess(SPEC, pixels)
    for given_as in (Image.fromarray(pixels), tmp_path / "x.png", str(tmp_path / "x.png"), np.asfortranarray(pixels)):
        np.testing.assert_array_equal(preprocess(SPEC, given_as), expected)


def test_without_resizing_the_size_must_fit() -> None:
    pixels = picture(6, 8)
    np.testing.assert_array_equal(preprocess(AS_IS, pixels), pixels.transpose(2, 0, 1).astype(np.float32))
    with pytest.raises(BadInput, match="8x6 where 6x8"):
        preprocess(AS_IS, picture(8, 6))


def as_is(image: Image.Image) -> np.ndarray:
    """Channels last, as integers."""
    return preprocess(AS_IS, image).transpose(1, 2, 0).astype(int)


def test_every_mode_becomes_rgb() -> None:
    grey = picture(6, 8)[..., 0]
    threefold = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(as_is(Image.fromarray(grey)), threefold)
    np.testing.assert_array_equal(as_is(Image.fromarray((grey > 99).astype(bool))), (threefold > 99) * 255)
    np.testing.assert_array_equal(as_is(Image.fromarray(grey.astype(np.uint16) * 256 + 7)), threefold)
    np.testing.assert_array_equal(as_is(Image.fromarray(grey.astype(np.int32) * 256 + 7)), threefold)
    rgba = np.concatenate([picture(6, 8), grey[..., None]], axis=2)
    np.testing.assert_array_equal(as_is(Image.fromarray(rgba)), rgba[..., :3])
    la = np.stack([grey, grey[::-1]], axis=2)
    np.testing.assert_array_equal(as_is(Image.fromarray(la)), threefold)


def test_palettes_with_and_without_transparency() -> None:
    index = (picture(6, 8)[..., 0] % 4).astype(np.uint8)
    colours = np.array([[1, 2, 3], [250, 0, 9], [7, 77, 177], [0, 0, 0]], np.uint8)
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(as_is(image), colours[index])
    image.info["transparency"] = b"\x00\xff\x80\x10"
    np.testing.assert_array_equal(as_is(image), colours[index])


def test_cmyk_is_inverted_ink() -> None:
    cyan, none = np.zeros((6, 8, 4), np.uint8), np.zeros((6, 8, 4), np.uint8)
    cyan[..., 0] = 255
    assert (as_is(Image.fromarray(cyan, "CMYK")) == [0, 255, 255]).all()
    assert (as_is(Image.fromarray(none, "CMYK")) == 255).all()


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, 1)),
        (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda x: np.rot90(x, -1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, undo: Any) -> None:
    upright = picture(6, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.png")), upright)
    np.testing.assert_array_equal(as_is(open_image(tmp_path / "x.png")), upright)


def test_broken_exif_does_not_lose_the_photograph(tmp_path: Path) -> None:
    Image.fromarray(picture(6, 8)).save(tmp_path / "x.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.png")), picture(6, 8))


def test_tensors_pass_as_they_are() -> None:
    spec = {"kind": "tensor", "shape": [2, 3, 4]}
    array = np.random.default_rng(0).standard_normal((2, 3, 4))
    got = preprocess(spec, array)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, array.astype(np.float32))
    for wrong in (array[:1], array.astype(np.int64), array.tolist(), "x.png"):
        with pytest.raises(BadInput, match="takes a float array"):
            preprocess(spec, wrong)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "wrong",
    [
        picture(6, 8)[..., :2],
        picture(6, 8)[..., 0],
        picture(6, 8).astype(np.float32),
        np.zeros((0, 8, 3), np.uint8),
        None,
        3,
        b"bytes",
    ],
)
def test_other_inputs_are_refused(wrong: Any) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        preprocess(SPEC, wrong)


def test_float_pixels_and_slivers_are_refused() -> None:
    with pytest.raises(BadInput, match="float pixels"):
        preprocess(SPEC, Image.new("F", (50, 50)))
    with pytest.raises(BadInput, match="long and thin"):
        preprocess({**SPEC, "resize": 4096}, Image.new("L", (10_000, 1)))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "video"},
        {"kind": ["image"]},
        {"kind": None},
        {"resize": 0},
        {"resize": True},
        {"resize": 256.0},
        {"resize": 10**9},
        {"resize": "256"},
        {"resize": 31},
        {"interpolation": "lanczos"},
        {"interpolation": {}},
        {"crop": 224},
        {"crop": [224]},
        {"crop": [224, 10**12], "resize": None},
        {"crop": [32, -1]},
        {"mean": [1, 2]},
        {"mean": ["1", 2, 3]},
        {"mean": [float("nan")] * 3},
        {"std": [0, 1, 1]},
        {"std": [float("inf")] * 3},
        {"std": None},
        {"extra": 1},
    ],
)
def test_bad_specs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        check_spec({**SPEC, **change})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("shape", [[], [0], [3, -1], [2**40], [2**20, 2**20], "3", [1.0], [1] * 5, None, [True]])
def test_bad_tensor_specs_are_refused(shape: Any) -> None:
    with pytest.raises(BadInput, match="shape"):
        check_spec({"kind": "tensor", "shape": shape})


@pytest.mark.parametrize("spec", [None, [], "image", {}, {"kind": "tensor"}, {k: SPEC[k] for k in SPEC if k != "std"}])
def test_incomplete_specs_are_refused(spec: Any) -> None:
    with pytest.raises(BadInput, match="preprocess: "):
        check_spec(spec)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SPEC)), PLAIN)
def test_any_value_is_accepted_or_bad_input(key: str, value: Any) -> None:
    spec = {**SPEC, key: value}
    try:
        check_spec(spec)
    except BadInput:
        return
    assert preprocess(spec, picture(9, 9)).shape == (3, *spec["crop"])


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(20, 30)).save(buffer, kind)
    return buffer.getvalue()


def check_refused(path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated_photographs_are_refused(tmp_path: Path, kind: str) -> None:
    data = saved(kind)
    for keep in (0, 1, 10, len(data) // 2):
        (tmp_path / "x").write_bytes(data[:keep])
        check_refused(tmp_path / "x")


@given(st.data())
def test_damaged_photographs_are_read_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    blob = bytearray(saved(data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(len(blob), 200) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(blob)
    try:
        assert open_image(path).mode == "RGB"
    except BadInput as error:
        assert "\n" not in str(error)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("not a picture")
    (tmp_path / "x.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    for path in (tmp_path, tmp_path / "absent.png", tmp_path / "x.txt", tmp_path / "x.eps"):
        check_refused(path)


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def png(side: int) -> bytes:
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))

    for side in (10_000, 60_000):
        (tmp_path / "bomb.png").write_bytes(png(side))
        with pytest.raises(BadInput, match="pixels; scale it down"):
            open_image(tmp_path / "bomb.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 100)
    with pytest.raises(BadInput, match="20x20 is more than 100 pixels"):
        preprocess(SPEC, Image.new("RGB", (20, 20)))


def test_at_another_size_the_same_part_is_shown() -> None:
    """The share of the photograph that is cut out stays, within a pixel of rounding."""
    other = at_size(SPEC, [3, 64, 48])
    assert other == {**SPEC, "resize": 80, "crop": [64, 48]}
    assert at_size(SPEC, [3, 32, 24]) is SPEC
    square = {**AS_IS, "crop": [8, 8]}
    assert at_size(square, [3, 12, 12]) == {**square, "resize": 12, "crop": [12, 12]}
    gradient = np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    small, large = (framed(spec, gradient).astype(float) for spec in (SPEC, other))
    assert abs(small.mean() - large.mean()) < 2
    assert abs(np.ptp(small) - np.ptp(large)) < 8
    tight = at_size({**SPEC, "resize": 33}, [3, 17, 13])
    assert tight["resize"] >= 17


@pytest.mark.parametrize("shape", [[1, 64, 48], [3, 64], [3, 64, 48, 1], [3, 10**6, 8]])
def test_what_is_no_other_size_is_refused(shape: list[int]) -> None:
    with pytest.raises(BadInput, match="preprocess: "):
        at_size(SPEC, shape)
    with pytest.raises(BadInput, match=r"gives .* where the network takes"):
        at_size({"kind": "tensor", "shape": [3, 8, 8]}, [3, 16, 16])
