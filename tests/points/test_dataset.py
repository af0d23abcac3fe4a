"""Clouds from files and arrays."""

from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.points.dataset import ArrayCloud, CloudFile


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1 2 3\n4 5 6\n")
    file = CloudFile(tmp_path / "a.xyz")
    assert file.open().tolist() == [[1, 2, 3], [4, 5, 6]]
    assert file.content() == b"1 2 3\n4 5 6\n"
    assert file.is_whole()
    (tmp_path / "a.xyz").write_text("1 2\n")
    assert not file.is_whole()
    with pytest.raises(BadInput, match=r"a\.xyz: not a readable xyz file"):
        file.open()


def test_one_of_an_array() -> None:
    clouds = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    one = ArrayCloud(clouds, 1)
    assert one.open().tolist() == [[12, 13, 14], [16, 17, 18], [20, 21, 22]]
    assert one.open().dtype == np.float32
    assert one.content() == clouds[1].tobytes()
