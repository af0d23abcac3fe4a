"""`shoestring fit --ladder N`: operating points from the command line and from Python, and what is refused."""

import json
from pathlib import Path

import pytest

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.deploy import shoe

pytestmark = pytest.mark.usefixtures("quick")

OPTIONS = ("--calibration", 8, "--runtime", "onnxruntime", "--input", "3x32x32", "--seconds", 1)
SLIM = ("--ladder", 3, "--method", "slim:w=0.5,1:d=1:r=0.5")


def test_points_are_trained_written_and_shown(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> None:
    out, told, page = tmp_path / "x.shoe", tmp_path / "x.json", tmp_path / "x.html"
    places = ("--data", photographs, "--out", out, "--json", told, "--html", page)
    ran = shoestring("fit", tiny, *OPTIONS, *SLIM, "--epochs", 1, "--train-batch", 5, *places)
    assert ran.code == 0, ran.err
    artifact = shoe.read(out)
    assert 2 <= len(artifact.points) <= 3
    assert artifact.provenance["epochs"] == 1
    assert set(artifact.provenance["methods"].values()) == {"slim:w=1,0.5:d=0,1:k=0:r=1,0.5"}
    ladder = json.loads(told.read_text())["ladder"]
    assert [rung["shape"] for rung in ladder] == [point.measured["shape"] for point in artifact.points]
    assert "operating point" in ran.out
    assert all(rung["shape"] in ran.out for rung in ladder)
    assert "Operating points" in page.read_text()
    assert not list(tmp_path.glob("*.training*"))
    again = shoestring("receipt", out, "--seconds", 1)
    assert again.code == 0, again.err


def test_methods_go_beside_it(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.shoe"
    methods = ("--method", "slim:w=0.5,1:d=0:r=1", "--method", "magnitude:4x1@50%", "--method", "lsq+:w4a4")
    training = ("--ladder", 2, "--epochs", 2, "--train-batch", 5, "--data", photographs, "--out", out)
    told = tmp_path / "x.json"
    ran = shoestring("fit", tiny, *OPTIONS, *methods, *training, "--json", told)
    assert ran.code in (0, 3), ran.err
    written = shoe.read(out).provenance["methods"]["blocks.0.project.0"]
    assert written == "slim:w=1,0.5:d=0:k=0:r=1, magnitude:4x1@50%:global, lsq+:w4a4:config4:mse"
    assert json.loads(told.read_text())["ledger"][-1]["step"] == "slim, magnitude, lsq+, trained"
    again = shoestring("receipt", out, "--seconds", 1)
    assert again.code in (0, 3), again.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "slim"), "makes operating points; add --ladder N"),
        (("--ladder", 3, "--method", "int8"), "--ladder: calibrates 8 bits by itself; leave int8 out"),
        (("--ladder", 3, "--method", "slim", "--method", "channels"), "--ladder: takes channels and blocks away"),
        (("--ladder", 3, "--method", "slim", "--method", "slim:d=1"), "slim is written 2 times"),
        (("--ladder", 3, "--method", "slim:w=2"), "give shares above 0 up to 1"),
        (("--ladder", 1), "--ladder 1: give 2 to 16 operating points"),
        (("--ladder", 3, "--budget", "latency=0.2x..1x"), "--ladder: makes its own range of points"),
        (("--ladder", 3, "--without", "int8"), "--without: is about plans, and a ladder leaves nothing to plan"),
        (("--ladder", 3, "--rounds", 2), "--rounds: is about plans, and a ladder leaves nothing to plan"),
        (("--ladder", 3, "--from", "x.pt"), "--from: brings zeros, which would not stay; leave it or --ladder out"),
        (("--ladder", 3, "--no-reconstruct"), "--no-reconstruct: nothing is reconstructed here; leave it or --ladder"),
        (("--ladder", 3, "--epochs", 1, "--features", "stem"), "--features: no features are followed here"),
        (("--ladder", 3, "--epochs", 1, "--fixed-norms"), "--fixed-norms: every size has statistics of its own"),
    ],
)
def test_what_is_refused(shoestring, tiny: str, photographs: Path, tmp_path: Path, options: tuple, said: str) -> None:
    ran = shoestring("fit", tiny, *OPTIONS, *options, "--data", photographs, "--out", tmp_path / "x.shoe")
    assert ran.code == 2
    assert said in ran.said
    assert not list(tmp_path.iterdir())


def test_from_python(tiny: str, photographs: Path, tmp_path: Path) -> None:
    same = {"data": photographs, "input": "3x32x32", "calibration": 8, "runtime": "onnxruntime", "seconds": 1}
    done = package.fit(tiny, ladder=2, method="slim:w=0.5,1:d=0:r=1", out=tmp_path / "x.shoe", **same)
    assert [str(one.shape) for one in done.candidates] == ["w=1", "w=0.5"]
    with pytest.raises(BadInput, match="add --ladder N"):
        package.fit(tiny, method="slim:w=0.5", out=tmp_path / "y.shoe", **same)
