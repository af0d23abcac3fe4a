"""Pictures from a folder: in their order, grey, on white; a folder that does not fit is told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.pretrain.icons import read_pictures


def test_pictures_are_read_in_their_order(tmp_path: Path) -> None:
    for name, colour in (("1.png", (0, 0, 0, 0)), ("0.png", (255, 0, 0, 255)), ("2.jpg", (0, 0, 0))):
        Image.new("RGBA" if len(colour) == 4 else "RGB", (20, 10), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    found = read_pictures(tmp_path, 3, 8)
    assert found.dtype == np.uint8
    assert found.shape == (3, 8, 8)
    assert [int(own[4, 4]) for own in found] == [76, 255, 0]  # red as luma, transparent as white, black


def test_a_folder_that_does_not_fit_is_told(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(BadInput, match="holds 1 pictures; give a folder with 2, one for each cloud"):
        read_pictures(tmp_path, 2)
    with pytest.raises(BadInput, match="absent does not exist"):
        read_pictures(tmp_path / "absent", 2)
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"1\.png cannot be read"):
        read_pictures(tmp_path, 2)
