import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image.data import load_images

CIFAR = Path(__file__).parents[3] / "shared/data/cifar10/test.npz"
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
FLOATS = np.random.default_rng(0).normal(size=(4, 3, 6, 8)).astype(np.float32)


def jpegs(images):
    """The JPEG packing of uint8 [N, H, W, 3]."""
    files = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG")
        files.append(stream.getvalue())
    offset = np.cumsum([0, *map(len, files)])
    return {"jpeg": np.frombuffer(b"".join(files), np.uint8), "offset": offset, "label": np.arange(len(files)) % 2}


@pytest.fixture
def pack(tmp_path):
    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return write


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., 0]])
def test_pictures(pack, images):
    dataset = load_images(pack(images=images, labels=np.array([0, 3, 1, 1])))
    assert dataset.targets == (0, 3, 1, 1)
    assert dataset.indexed
    for n, (image, _) in enumerate(dataset):
        assert np.array_equal(np.asarray(image), images[n])


def test_network_inputs_without_labels(pack):
    dataset = load_images(pack(images=FLOATS))
    assert not dataset.labelled
    assert not dataset.indexed
    assert np.array_equal(np.stack([image for image, _ in dataset]), FLOATS)


def test_named_classes(pack):
    dataset = load_images(
        pack(images=IMAGES, labels=np.array([0, 1, 1, 1], np.uint8), classes=np.array(["cat", "dog"]))
    )
    assert dataset.names == ("cat", "dog")
    assert not dataset.indexed


def test_packed_jpegs(pack):
    packed = jpegs(IMAGES)
    dataset = load_images(pack(**packed, classes=np.array(["cat", "dog"])))
    assert dataset.targets == (0, 1, 0, 1)
    for n, (image, _) in enumerate(dataset):
        start, stop = packed["offset"][n : n + 2]
        assert np.array_equal(image, Image.open(io.BytesIO(packed["jpeg"][start:stop].tobytes())))


def test_a_broken_packed_image_is_left_out(pack):
    packed = jpegs(IMAGES)
    packed["jpeg"] = packed["jpeg"].copy()
    packed["jpeg"][packed["offset"][1] : packed["offset"][2]] = 0
    with pytest.warns(UserWarning, match=r"left out 1 of 4 images .*number 1\)"):
        dataset = load_images(pack(**packed))
    assert dataset.group == ("0", "2", "3")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES, "y": IMAGES}, "has the keys x, y; it needs images"),
        ({}, "has the keys none"),
        ({"images": IMAGES.astype(np.float64)}, r"images is float64 \[4, 6, 8, 3\]; give uint8"),
        ({"images": IMAGES[:0]}, "images is uint8 .*0, 6, 8, 3"),
        ({"images": IMAGES[0, 0]}, r"images is uint8 \[8, 3\]"),
        ({"images": IMAGES.repeat(2, axis=3)}, r"images is uint8 \[4, 6, 8, 6\]"),
        ({"images": np.where(FLOATS > 2, np.nan, FLOATS)}, "NaN"),
        ({"images": IMAGES.astype(object)}, "images cannot be read as plain arrays"),
        ({"images": IMAGES, "labels": np.array([1, 2, None, 3])}, "labels cannot be read as plain arrays"),
        ({"images": IMAGES, "labels": np.arange(3)}, r"labels is int64 \[3\]; give one whole number for each of 4"),
        ({"images": IMAGES, "labels": np.ones(4)}, r"labels is float64 \[4\]"),
        (
            {"images": IMAGES, "labels": np.array([0, 1, -1, 0])},
            "labels -1 of image 2 is out of range; give 0 or above",
        ),
        (
            {"images": IMAGES, "labels": np.array([0, 1, 2, 0]), "classes": np.array(["a", "b"])},
            "labels 2 of image 2 is out of range; give from 0 to 1",
        ),
        ({"images": IMAGES, "classes": np.arange(2)}, r"classes is int64 \[2\]; give one text"),
        ({**jpegs(IMAGES), "label": np.arange(2)}, "label is int64"),
        ({**jpegs(IMAGES), "offset": np.array([0.0, 1])}, "offset float64"),
        ({**jpegs(IMAGES), "offset": np.array([0, 50, 20, 60, 70])}, "offset must rise"),
        ({**jpegs(IMAGES), "offset": np.array([0, 1, 2, 3, 10**9])}, "offset must rise"),
        ({**jpegs(IMAGES), "offset": np.array([-5, 1, 2, 3, 4])}, "offset must rise"),
    ],
)
def test_what_does_not_fit_is_refused(pack, arrays, message):
    with pytest.raises(BadInput, match=message):
        load_images(pack(**arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x80\x04pickled", b"plain text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"data\.npz.* cannot be read"):
        load_images(path)


def test_a_single_array_is_no_npz(tmp_path):
    with (tmp_path / "data.npz").open("wb") as stream:
        np.save(stream, IMAGES)
    with pytest.raises(BadInput, match=r"numpy\.savez"):
        load_images(tmp_path / "data.npz")


def test_every_truncation_is_refused(pack):
    path = pack(images=IMAGES, labels=np.arange(4))
    content = path.read_bytes()
    for length in range(0, len(content), 61):
        path.write_bytes(content[:length])
        with pytest.raises(BadInput, match="cannot be read"):
            load_images(path)


def test_flipped_bytes_are_refused_or_read_alike(pack):
    path = pack(images=IMAGES, labels=np.arange(4))
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 23):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            dataset = load_images(path)
        except BadInput:
            refused += 1
            continue
        assert np.array_equal(np.stack([np.asarray(image) for image, _ in dataset]), IMAGES)
    assert refused > 20


@pytest.mark.skipif(not CIFAR.is_file(), reason="CIFAR-10 is not on this machine")
def test_cifar():
    dataset = load_images(CIFAR)
    assert len(dataset) == 5000
    assert dataset.names[:2] == ("airplane", "automobile")
    assert dataset[0][0].size == (32, 32)
