"""`shoestring fit --method exits:N`: early exits from the command line and from Python, and what is refused."""

import json
from pathlib import Path

import pytest

import shoestring as package
from shoestring.deploy import shoe

pytestmark = pytest.mark.usefixtures("quick")

OPTIONS = ("--calibration", 8, "--runtime", "onnxruntime", "--input", "3x32x32", "--seconds", 1)


@pytest.fixture(autouse=True)
def measured(timed) -> None:
    timed({"0": 1.0, "1": 2.0, "2": 2.5, "without exits": 2.2, "subject": 2.0, "fp32": 4.0, "fp32@onnxruntime": 4.0})


def test_exits_are_trained_written_and_shown(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "x.shoe", tmp_path / "x.json"
    places = ("--data", photographs, "--out", out, "--json", told)
    ran = shoestring("fit", tiny, *OPTIONS, "--method", "exits:2:lose=5", "--epochs", 1, "--train-batch", 5, *places)
    assert ran.code == 0, ran.err
    artifact = shoe.read(out)
    assert [point.after for point in artifact.points] == [None, 0, 1]
    made = artifact.provenance
    assert made["epochs"] == 1
    assert made["methods"]["exit_0.mix"] == "exits:2:lose=5"
    assert made["data"]["training"] + made["data"]["held"] == 15
    ladder = json.loads(told.read_text())["ladder"]
    assert [rung["shape"] for rung in ladder] == ["exit at stem.2", "exit at blocks.0", "all of it"]
    assert all(rung["shape"] in ran.out for rung in ladder)
    assert "Trained for 1 epochs: exits learn what the last layer says." in " ".join(ran.out.split())
    assert not list(tmp_path.glob("*.training*"))
    again = shoestring("receipt", out, "--seconds", 1, "--original", tiny, "--input", "3x32x32", "--data", photographs)
    assert again.code in (0, 3), again.err
    picture = next(photographs.rglob("*.png"))
    ran = shoestring("run", out, picture, "--deadline", "1000ms", "--frames", 3)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "exits:0"), "exits: cannot read '0'; give 1 to 4 exits"),
        (("--method", "exits:at=nowhere"), "cannot be left at 'nowhere'; places are stem.2, blocks.0"),
        (("--method", "exits:4"), "can be left at stem.2, blocks.0 only; write exits:2"),
        (("--method", "exits", "--method", "int8"), "--method exits: goes alone, with 8 bits"),
        (("--method", "exits:1", "--ladder", 3), "--ladder: makes operating points of its own; leave it"),
        (("--method", "exits:1", "--budget", "latency=0.2x..1x"), "a front is planned"),
        (("--method", "exits:1", "--rounds", 2), "--rounds: is about plans"),
        (("--method", "exits:1", "--from", "x.pt"), "--from: brings zeros, which would not stay; leave it or --method"),
        (("--method", "exits:1", "--no-reconstruct"), "--no-reconstruct: nothing is reconstructed here"),
        (("--method", "exits:1", "--epochs", 1, "--features", "stem"), "--features: no features are followed here"),
    ],
)
def test_what_is_refused(shoestring, tiny: str, photographs: Path, tmp_path: Path, options: tuple, said: str) -> None:
    ran = shoestring("fit", tiny, *OPTIONS, *options, "--data", photographs, "--out", tmp_path / "x.shoe")
    assert ran.code == 2
    assert said in ran.said
    assert not list(tmp_path.iterdir())


def test_from_python_without_training(tiny: str, photographs: Path, tmp_path: Path) -> None:
    done = package.fit(
        tiny,
        data=photographs,
        input="3x32x32",
        method="exits:at=blocks.0",
        calibration=8,
        runtime="onnxruntime",
        seconds=1.0,
        out=tmp_path / "x.shoe",
    )
    assert [rung.shape for rung in done.receipt.ladder] == ["exit at blocks.0", "all of it"]
    assert "No training was done: exits are fitted to what the last layer says." in " ".join(done.receipt.notes)
    assert done.rules.n == 7
    assert package.load(done.path, point=1)(next(photographs.rglob("*.png")))[0].probability > 0
