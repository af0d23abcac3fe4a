"""`shoestring fit --epochs N`: training from the command line and from Python, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.deploy import shoe
from shoestring.train.recipe import Recipe

pytestmark = pytest.mark.usefixtures("quick")

OPTIONS = ("--calibration", 8, "--runtime", "onnxruntime", "--input", "3x32x32")
SHORT = ("--epochs", 1, "--train-batch", 5)


@pytest.fixture
def others(tmp_path: Path, photographs: Path) -> Path:
    """Ten other pictures of the same classes."""
    for name in sorted(path.name for path in photographs.iterdir()):
        (tmp_path / "others" / name).mkdir(parents=True)
        Image.open(photographs / name / "0.png").rotate(180).save(tmp_path / "others" / name / "0.png")
    return tmp_path / "others"


def test_train_on_all_and_judge_on_others(shoestring, tiny: str, photographs: Path, others: Path, tmp_path) -> None:
    out = tmp_path / "x.shoe"
    methods = ("--method", "lsq+:w4a4:blocks.1.*=w2a2")
    places = ("--data", photographs, "--judge", others, "--out", out)
    ran = shoestring("fit", tiny, *OPTIONS, *SHORT, "--distil", 0.5, *methods, *places)
    assert (ran.code, ran.err) == (0, "")
    made = shoe.read(out).provenance
    assert made["epochs"] == 1
    assert (made["training"]["batch"], made["training"]["distil"], made["training"]["norms"]) == (5, 0.5, True)
    assert (made["data"]["training"], made["data"]["judgement"]) == (30, 10)
    assert made["methods"]["blocks.1.project.0"] == "lsq+:w2a2:config4:mse"
    assert "Trained for 1 epoch. Bits of weights: 2 at 2, 2 at 4, 2 at 8, of 6 layers." in " ".join(ran.out.split())
    assert not list(tmp_path.glob("*.training"))
    receipt = ("receipt", out, "--original", tiny, "--input", "3x32x32")
    again = shoestring(*receipt, "--data", photographs)
    assert again.code == 2  # nothing is judged that was trained on
    assert "trained" in again.said
    assert shoestring(*receipt, "--data", others, "--calibration", 2).code in (0, 3)


def test_without_other_data_a_half_trains_and_a_half_judges(tiny: str, photographs: Path, tmp_path: Path) -> None:
    done = package.fit(
        tiny,
        data=photographs,
        input="3x32x32",
        method="lsq:w4a4",
        bits={"stem.*": "w6a8"},
        epochs=0.5,
        recipe={"batch": 4, "norms": False},
        calibration=8,
        runtime="onnxruntime",
        out=tmp_path / "x.shoe",
    )
    made = shoe.read(done.path).provenance
    assert made["data"]["training"] + done.receipt.quality.n == 30
    assert made["methods"]["stem.0"] == "lsq:w6a8:config1:mean"
    assert made["training"]["norms"] is False


@pytest.mark.parametrize(
    "what",
    [
        ("--method", "lsq:w4a4"),
        ("--method", "magnitude:4x1@50%"),
        ("--ladder", 2, "--method", "slim:w=0.5,1:d=0:r=1"),
        ("--method", "exits:1"),
    ],
    ids=lambda what: " ".join(map(str, what)),
)
def test_all_that_trains_has_the_optimiser(what, shoestring, tiny: str, photographs: Path, tmp_path, monkeypatch):
    seen: list[Recipe] = []

    def stop(model: Any, data: Any, recipe: Recipe, *_: Any, **__: Any) -> Any:
        seen.append(recipe)
        raise BadInput("stopped")

    monkeypatch.setattr("shoestring.pipeline.following.train", stop)
    asked = (*what, *SHORT, "--data", photographs, "--out", tmp_path / "x.shoe", "--optimiser")
    for rest in (("adamw",), ("adamw", "--lr", 0.5), ("sgd",)):
        assert shoestring("fit", tiny, *OPTIONS, *asked, *rest).said.endswith("stopped")
    assert [recipe.optimiser for recipe in seen] == ["adamw", "adamw", "sgd"]
    assert [recipe.lr for recipe in seen] == [0.002, 0.5, 0.01]
    assert [recipe.weight_decay for recipe in seen] == [0.05, 0.05, 1e-4]


def test_the_optimiser_from_python(tiny: str, photographs: Path, tmp_path: Path) -> None:
    given = {"data": photographs, "input": "3x32x32", "method": "lsq:w4a4", "calibration": 8, "runtime": "onnxruntime"}
    recipe = {"batch": 4, "weight_decay": 0.0}
    done = package.fit(tiny, epochs=0.5, optimiser="adamw", recipe=recipe, out=tmp_path / "x.shoe", **given)
    made = shoe.read(done.path).provenance["training"]
    assert (made["optimiser"], made["lr"], made["weight_decay"]) == ("adamw", 0.002, 0.0)
    with pytest.raises(BadInput, match=r"^--optimiser: is about training; add --epochs N$"):
        package.fit(tiny, optimiser="adamw", out=tmp_path / "y.shoe", **given)


def test_no_epochs_apply_and_export(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> None:
    bits = tmp_path / "bits.json"
    bits.write_text(json.dumps({"classifier": "w4a8"}))
    out = tmp_path / "x.shoe"
    options = ("--method", "lsq+:w8a8", "--bits", bits, "--data", photographs, "--out", out)
    ran = shoestring("fit", tiny, *OPTIONS, *options)
    assert ran.code == 0
    assert "No training was done: the grids as started" in " ".join(ran.out.split())
    assert shoe.read(out).provenance["methods"]["classifier"] == "lsq+:w4a8:config4:mse"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with bits as they should be and as they should not."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("bits", {"stem.*": "w8a8"}), ("wrong", [8]), ("nobody", {"head.*": "w8a8"})):
        Path(f"{name}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--method", "lsq", "--lr", 0.1), "--lr: is about training; add --epochs N"),
        (("--method", "lsq", "--optimiser", "adamw"), "--optimiser: is about training; add --epochs N"),
        (("--method", "lsq", "--epochs", 1, "--optimiser", "lion"), "'lion' is not known; write one of sgd, adamw"),
        (("--method", "lsq", "--fixed-norms"), "--fixed-norms: is about training"),
        (("--method", "int8", "--epochs", 1), "int8 works after training"),
        (("--epochs", 1), "int8 works after training"),
        (("--method", "lsq", "--epochs", 1, "--lr", -1), "lr: -1"),
        (("--method", "lsq", "--epochs", 1, "--train-batch", 0), "batch: 0 is out of range"),
        (("--method", "lsq:w9a9"), "unknown setting 'w9a9'"),
        (("--bits", "bits.json"), "--bits: belong to a method"),
        (("--method", "ltp", "--bits", "bits.json"), "--bits: belong to a method"),
        (("--method", "ltp", "--method", "magnitude"), "ltp and magnitude cannot be combined"),
        (("--method", "lsq", "--from", "x.pt"), "--from: x.pt holds zeros for a method that prunes; add --method"),
        (("--method", "ltp", "--from", "x.pt"), "weights: x.pt does not exist"),
        (("--method", "magnitude:*.depthwise.0=2:4"), "of 2:4 do not fit blocks.0.depthwise.0, which is 1x1 in each"),
        (("--method", "lsq", "--without", "magnitude"), "--without: is about plans, and methods leave nothing to plan"),
        (
            ("--method", "int8", "--rounds", 0),
            "--rounds: is about plans, and methods leave nothing to plan; leave it or",
        ),
        (("--method", "lsq", "--bits", "absent.json"), "absent.json cannot be read"),
        (("--method", "lsq", "--bits", "wrong.json"), "wrong.json is not an object of bits"),
        (("--method", "lsq", "--bits", "nobody.json"), "no layer is called 'head.*'"),
    ],
)
def test_what_is_refused(options, reason, shoestring, tiny, photographs, shelf: Path) -> None:
    ran = shoestring("fit", tiny, *OPTIONS, "--data", photographs, *options)
    assert ran.code == 2
    assert reason in ran.said
    assert not list(shelf.glob("*.shoe"))


@pytest.mark.parametrize("about", [{"without": ["structured"]}, {"without": "structured"}, {"rounds": 1}])
def test_what_is_about_plans_is_refused_beside_methods(about, tiny: str, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^--(without|rounds): .*; leave it or --method out$"):
        package.fit(tiny, data=photographs, input="3x32x32", method="int8", out=tmp_path / "x.shoe", **about)


def test_judging_on_what_trains_is_refused(tiny: str, photographs: Path, tmp_path: Path) -> None:
    same = {"data": photographs, "judge": photographs, "input": "3x32x32", "calibration": 8}
    with pytest.raises(BadInput, match=r"30 of the 30 inputs .* either fits or judges"):
        package.fit(tiny, method="lsq", epochs=1, out=tmp_path / "x.shoe", **same)


def test_zeros_and_bits_together_leave_a_trail(
    shoestring, tiny: str, photographs: Path, others: Path, tmp_path
) -> None:
    out, bits = tmp_path / "x.shoe", tmp_path / "bits.json"
    bits.write_text(json.dumps({"classifier": "w4a8"}))
    methods = ("--method", "magnitude:4x1@50%:uniform", "--method", "lsq+:w8a8", "--bits", bits)
    places = ("--data", photographs, "--judge", others, "--out", out)
    ran = shoestring("fit", tiny, *OPTIONS, "--epochs", 2, "--train-batch", 5, *methods, *places)
    assert (ran.code, ran.err) == (0, "")
    made, said = shoe.read(out).provenance["methods"], " ".join(ran.out.split())
    assert made["blocks.1.project.0"] == "magnitude:4x1@50%:uniform, lsq+:w8a8:config4:mse"
    assert made["classifier"] == "lsq+:w4a8:config4:mse"
    assert "sparsity trail of magnitude:4x1@50%:uniform" in said
    assert "Pruned while it trained (magnitude): 50" in said
    assert "sparsity trail" in (tmp_path / "x.trail/trail.html").read_text()
    points = sorted((tmp_path / "x.trail").glob("point-*.safetensors"))
    assert len(points) == 6  # of the six steps of an epoch
    further = ("--method", "magnitude:4x1@50%:uniform", "--from", points[-1], "--epochs", 1, "--train-batch", 5)
    again = shoestring("fit", tiny, *OPTIONS, *further, *places[:-1], tmp_path / "y.shoe")
    assert (again.code, again.err) == (0, "")
    assert f"Pruned before (magnitude), as {points[-1].name} has it: 50" in " ".join(again.out.split())
