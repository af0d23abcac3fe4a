import subprocess
import sys
from collections import Counter
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image import demo
from shoestring.pipeline.split import split

pytest.importorskip("skimage", reason="scikit-image is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_there_are_enough_for_both_sets():
    photographs = demo.demo_photographs()
    assert not photographs.labelled
    assert set(Counter(photographs.group).values()) == {demo.CROPS}
    calibration, judgement = split(photographs, 64, seed=0)
    assert (len(calibration), len(judgement)) == (64, 96)
    assert not set(calibration.group) & set(judgement.group)


def test_crops_are_parts_of_their_photograph():
    photographs = demo.demo_photographs()
    for item in photographs.items[:: demo.CROPS + 1]:
        crop = item.source
        with Image.open(crop.photograph.path) as whole:
            cut = whole.convert("RGB").crop((crop.left, crop.top, crop.left + crop.side, crop.top + crop.side))
            assert 0 <= crop.left <= crop.left + crop.side <= whole.width
            assert 0 <= crop.top <= crop.top + crop.side <= whole.height
            assert crop.side >= 0.63 * min(whole.size)  # square root of the smallest area
        image = crop.open()
        assert (image.size, image.mode) == ((demo.SIDE, demo.SIDE), "RGB")
        expected = np.asarray(cut.resize((16, 16), Image.Resampling.BOX), np.int16)
        got = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.int16)
        got = got[:, ::-1] if crop.mirror else got
        assert np.abs(got - expected).mean() < 3  # of 255: two different filters on the same pixels


def test_all_crops_differ_and_come_out_the_same_again():
    first, second = demo.demo_photographs(), demo.demo_photographs()
    assert len({item.source.content() for item in first.items}) == len(first)
    assert first.fingerprint == second.fingerprint
    assert {item.source.mirror for item in first.items} == {True, False}


def test_the_files_are_inside_the_wheels():
    shipped = {str(file) for name in ("scikit-image", "scikit-learn") for file in files(name) or ()}
    for path in {item.source.photograph.path for item in demo.demo_photographs().items}:
        assert any(str(path).endswith("/" + file) for file in shipped), path


def test_the_packages_are_not_imported():
    code = "import sys; from shoestring.image.demo import demo_photographs as d; d()[0]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"skimage", "sklearn", "torch", "onnxruntime"} & set(loaded)


@pytest.mark.parametrize("absent", ["skimage", "sklearn"])
def test_without_the_packages_the_way_to_get_them_is_said(monkeypatch, absent):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == absent else pytest.importorskip(name).__spec__)
    with pytest.raises(BadInput, match=r"pip install shoestring\[demo\]"):
        demo.demo_photographs()


def test_a_package_without_its_photographs_says_which(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "Path", lambda *parts: tmp_path / Path(*parts).name)
    with pytest.raises(BadInput, match=r"lack astronaut\.png"):
        demo.demo_photographs()
