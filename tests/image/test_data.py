import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image.data import load_images

SAMPLES = Path(__file__).parents[3] / "shared/data/imagenet_samples"


@pytest.fixture
def table(tmp_path, save):
    """Writes three images and a `labels.csv`, and returns the folder."""

    def write(text, encoding="utf-8"):
        for n in range(3):
            save(tmp_path / f"images/{n}.png", n)
        (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
        return tmp_path

    return write


def test_sub_folders_are_classes_in_sorted_order(tmp_path, save):
    for n, name in enumerate(("dog/1.jpg", "cat/2.png", "cat/1.PNG", "Zebra/1.webp")):
        save(tmp_path / name, n)
    (tmp_path / "empty").mkdir()
    dataset = load_images(tmp_path)
    assert dataset.names == ("Zebra", "cat", "dog", "empty")
    assert dataset.targets == (0, 1, 1, 2)
    assert dataset.group == ("Zebra/1.webp", "cat/1.PNG", "cat/2.png", "dog/1.jpg")
    assert dataset.labelled
    assert not dataset.indexed
    assert np.array_equal(dataset[2][0], Image.open(tmp_path / "cat/2.png"))


@pytest.mark.parametrize(
    "names", [("a.png", "b.png"), ("x/a.png", "b.png"), ("x/a.png", "x/b.png"), ("x/y/a.png", "x/z/b.png", "w/c.png")]
)
def test_other_arrangements_have_no_labels(tmp_path, save, names):
    for name in names:
        save(tmp_path / name)
    dataset = load_images(str(tmp_path))
    assert len(dataset) == len(names)
    assert not dataset.labelled
    assert dataset.names == ()


def test_hidden_and_other_files_are_passed_over(tmp_path, save):
    for name in ("a.png", ".hidden.png", ".cache/b.png", "x/._c.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert load_images(tmp_path).group == ("a.png",)


def test_linked_class_folders_are_followed(tmp_path, save):
    save(tmp_path / "store/cat/1.png")
    save(tmp_path / "data/dog/1.png")
    (tmp_path / "data/cat").symlink_to(tmp_path / "store/cat")
    assert load_images(tmp_path / "data").targets == (0, 1)


def test_a_table_of_class_indices(table):
    dataset = load_images(table("file,class_index,wnid,name\nimages/1.png,7,n7,seven\nimages/0.png,2,n2,two\n"))
    assert dataset.targets == (7, 2)
    assert dataset.names == ("", "", "two", "", "", "", "", "seven")
    assert dataset.indexed
    assert dataset.group == ("images/1.png", "images/0.png")


def test_a_table_of_names(table):
    dataset = load_images(table("file,label\nimages/0.png,tench\nimages/1.png,crane\nimages/2.png,tench\n"))
    assert (dataset.targets, dataset.names, dataset.indexed) == ((1, 0, 1), ("crane", "tench"), False)


def test_labels_that_are_numbers_are_indices(table):
    dataset = load_images(table("file,label\nimages/0.png,10\nimages/1.png,9\n"))
    assert (dataset.targets, dataset.names, dataset.indexed) == ((10, 9), (), True)


def test_a_table_from_a_spreadsheet_with_groups(table):
    text = 'file,label,group\r\n"images/0.png","a, b",p\r\nimages/1.png,c,p\r\nimages/2.png,c,\r\n'
    dataset = load_images(table(text, "utf-8-sig"))
    assert dataset.names == ("a, b", "c")
    assert dataset.group == ("p", "p", "images/2.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns nothing; it needs file,class_index or file,label"),
        ("path,class\nimages/0.png,1\n", "columns path, class"),
        ("file;label\nimages/0.png;1\n", "columns file;label"),
        ("file,label\n", "lists no image"),
        ("file,class_index\nimages/0.png,one\n", "line 2: class_index 'one' is not a class index from 0"),
        ("file,class_index\nimages/0.png,0\nimages/1.png,-1\n", "line 3: class_index '-1'"),
        ("file,class_index\nimages/0.png,1.0\n", "line 2: class_index '1.0'"),
        ("file,class_index\nimages/0.png,99999999999\n", "line 2: class_index '99999999999'"),
        ("file,class_index\nimages/0.png\n", "line 2 does not have the 2 columns"),
        ("file,class_index\nimages/0.png,1,2\n", "line 2 does not have the 2 columns"),
        ("file,label\nimages/0.png,\n", "line 2 has an empty label"),
        ("file,label\n ,cat\n", "line 2 has an empty file"),
        ("file,label\nimages/0.png,a\nimages/7.png,b\nimages/8.png,b\n", r"2 files .* images/7.png \(line 3\)"),
        ("file,label\nimages/0.png,a\nimages/0.png,b\n", "images/0.png twice, in lines 2 and 3"),
        ('file,label\n"images/0.png,a\n', "not comma-separated text"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(table, text, message):
    with pytest.raises(BadInput, match=message):
        load_images(table(text))


def test_a_table_in_another_encoding_is_refused(table):
    with pytest.raises(BadInput, match="UTF-8"):
        load_images(table("file,label\nimages/0.png,bär\n", "latin-1"))


def test_a_path_that_is_missing_empty_or_a_file_is_refused(tmp_path, save):
    with pytest.raises(BadInput, match="does not exist"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"no image in .*\.jpg"):
        load_images(tmp_path)
    with pytest.raises(BadInput, match="give the folder it lies in"):
        load_images(save(tmp_path / "a.png"))


def test_a_folder_of_splits_is_not_a_set_of_classes(tmp_path, save):
    for name in ("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"):
        save(tmp_path / name)
    with pytest.raises(BadInput, match=r"give one of them, for example .*train"):
        load_images(tmp_path)


def test_broken_images_are_left_out_with_one_warning(tmp_path, save):
    for n in range(4):
        save(tmp_path / f"{n}.jpg", n)
    (tmp_path / "1.jpg").write_bytes(b"no image at all")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-40])
    with pytest.warns(UserWarning, match=r"left out 2 of 4 images .*1\.jpg") as caught:
        dataset = load_images(tmp_path)
    assert len(caught) == 1
    assert dataset.group == ("0.jpg", "3.jpg")
    assert len([image for image, _ in dataset]) == 2


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "gif", "tif", "ppm", "jpg"])
def test_truncated_images_of_every_kind_are_left_out(tmp_path, save, suffix):
    good, half = save(tmp_path / "good.png"), save(tmp_path / f"half.{suffix}", size=(64, 64))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    with pytest.warns(UserWarning, match="left out 1 of 2"):
        assert load_images(tmp_path).group == (good.name,)


def test_a_linked_file_that_is_gone_is_left_out(tmp_path, save):
    save(tmp_path / "a/1.png")
    (tmp_path / "a/2.png").symlink_to(tmp_path / "gone.png")
    with pytest.warns(UserWarning, match=r"left out 1 of 2 .*a/2\.png"):
        assert len(load_images(tmp_path)) == 1


def test_nothing_but_broken_images_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match=r"none of the 1 images .*a\.jpg"):
        load_images(tmp_path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the ImageNet samples are not on this machine")
def test_the_imagenet_samples():
    dataset = load_images(SAMPLES)
    assert len(dataset) == 500
    assert dataset.indexed
    assert dataset.targets == tuple(range(0, 1000, 2))
    assert dataset.names[0] == "tench"
    assert min(dataset[17][0].size) == 256


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the ImageNet samples are not on this machine")
def test_imagenet_as_class_folders(tmp_path):
    for wnid in ("n01484850", "n01440764"):
        (tmp_path / wnid).mkdir()
        for file in SAMPLES.glob(f"images/*{wnid}*"):
            shutil.copy(file, tmp_path / wnid)
    assert load_images(tmp_path).names == ("n01440764", "n01484850")
