from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image.dataset import ArrayImage, ImageFile, PackedImage
from shoestring.pipeline.dataset import Dataset, Item


@pytest.fixture
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    return Dataset(tuple(Item(ArrayImage(images, n), n % 2, f"photo {n // 2}") for n in range(5)), ("a", "b"))


def test_it_is_a_sequence_of_pairs(dataset):
    image, target = dataset[3]
    assert (image.size, target) == ((6, 4), 1)
    assert [target for _, target in dataset] == [0, 1, 0, 1, 0]
    assert len(dataset) == 5
    assert dataset[-1][1] == 0
    with pytest.raises(IndexError):
        dataset[5]


def test_slices_and_selections_are_data_sets(dataset):
    assert dataset[1:3].group == ("photo 0", "photo 1")
    assert dataset.take([4, 0]).group == ("photo 2", "photo 0")
    assert dataset[1:3].names == dataset.names


def test_it_cannot_be_changed(dataset):
    with pytest.raises(FrozenInstanceError):
        dataset.names = ()


def test_labelled_means_every_item(dataset):
    assert dataset.labelled
    assert not replace(dataset, items=(*dataset.items, replace(dataset.items[0], target=None))).labelled


def test_the_fingerprint_follows_content_labels_names_and_order(dataset):
    again = Dataset(dataset.items, dataset.names)
    assert dataset.fingerprint == again.fingerprint
    assert len(dataset.fingerprint) == 64
    changed = dataset.items[0].source.images.copy()
    changed[0, 0, 0, 0] ^= 1
    others = [
        dataset[:4],
        dataset.take([1, 0, 2, 3, 4]),
        replace(dataset, names=("a", "c")),
        replace(dataset, items=(replace(dataset.items[0], target=1), *dataset.items[1:])),
        replace(dataset, items=(replace(dataset.items[0], source=ArrayImage(changed, 0)), *dataset.items[1:])),
    ]
    assert len({other.fingerprint for other in [dataset, *others]}) == 6


def test_the_fingerprint_does_not_follow_the_file_name(tmp_path, save):
    one, two = save(tmp_path / "a.png"), save(tmp_path / "elsewhere" / "b.png")
    prints = {Dataset((Item(ImageFile(path), None, str(path)),)).fingerprint for path in (one, two)}
    assert len(prints) == 1


def test_images_are_decoded_on_access_only(tmp_path, save):
    path = save(tmp_path / "a.png")
    dataset = Dataset((Item(ImageFile(path), None, "a"),))
    path.write_bytes(b"broken since")
    with pytest.raises(BadInput, match=r"a\.png"):
        dataset[0]


def test_a_damaged_packed_image_is_named():
    with pytest.raises(BadInput, match="at byte 2"):
        PackedImage(np.zeros(9, np.uint8), 2, 8).open()


def test_arrays_of_bytes_are_pictures_and_floats_stay_inputs():
    grey = ArrayImage(np.full((2, 4, 6), 7, np.uint8), 1).open()
    assert isinstance(grey, Image.Image)
    assert (grey.mode, grey.size) == ("L", (6, 4))
    floats = ArrayImage(np.ones((2, 3, 4, 4), np.float32), 1).open()
    assert isinstance(floats, np.ndarray)
    assert floats.shape == (3, 4, 4)


def test_every_truncation_of_a_jpeg_is_noticed(tmp_path, save):
    path = save(tmp_path / "a.jpg", size=(40, 30))
    content = path.read_bytes()
    assert ImageFile(path).is_whole()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert not ImageFile(path).is_whole()


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path, save):
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"\0" * 16)
    assert ImageFile(path).is_whole()
