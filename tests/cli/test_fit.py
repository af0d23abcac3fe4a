"""`shoestring fit` from end to end: every kind of model and of data, exit codes, and bad input that leaves no trace."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.core.receipt import FAILS, HOLDS, Receipt
from shoestring.deploy import shoe
from shoestring.deploy.normal_form import violations
from shoestring.deploy.preprocess import preprocess
from shoestring.image.fitting import spec_of
from shoestring.pipeline.original import resolve
from shoestring.pipeline.post_training import outputs

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def fitting(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> Callable[..., Any]:
    """`fitting("--budget", ...)`: the small network on the photographs, in 8 bits, into x.shoe and x.json."""

    def run(*options: object, model: str = tiny, data: object = photographs, shape: str | None = "3x32x32") -> Any:
        given = [*(["--input", shape] if shape else []), *(["--data", data] if data else [])]
        places = ["--out", tmp_path / "x.shoe", "--json", tmp_path / "x.json"]
        return shoestring("fit", model, *given, "--calibration", 8, "--runtime", "onnxruntime", *places, *options)

    return run


def told(tmp_path: Path) -> Receipt:
    """The receipt in x.json, which is the one in x.shoe."""
    receipt = Receipt.from_json(json.loads((tmp_path / "x.json").read_text()))
    assert shoe.read(tmp_path / "x.shoe").receipt == receipt
    return receipt


def test_a_folder_of_classes(fitting, tmp_path: Path) -> None:
    """Exit 0; the file, the receipt as a table, as JSON and as a page."""
    ran = fitting("--method", "int8", "--budget", "latency<=0.6x, size<=2x", "--html", tmp_path / "x.html")
    assert (ran.code, ran.err) == (0, "")
    receipt = told(tmp_path)
    assert receipt.verdict == HOLDS
    assert receipt.quality.metric == "top-1"
    assert receipt.quality.n == 22
    assert "HOLDS  x.shoe on onnxruntime" in ran.out
    assert ran.out.splitlines()[-1] == f"wrote {tmp_path / 'x.shoe'} and {tmp_path / 'x.html'}"
    page = (tmp_path / "x.html").read_text()
    assert "x.shoe" in page
    assert not re.search(r"\b(src|href)=|://(?!www\.w3\.org/)", page)  # one file, nothing fetched
    artifact = shoe.read(tmp_path / "x.shoe")
    assert artifact.labels[:2] == ("ant", "bee")
    assert violations(onnx.load_from_string(artifact.onnx())) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_labels_csv(fitting, photographs: Path, tiny: str, tmp_path: Path) -> None:
    """The labels are what the network itself says, so that the original is always right; groups keep together."""
    original = resolve(tiny, input="3x32x32")
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    for index, path in enumerate(sorted(photographs.rglob("*.*"))):
        Image.open(path).convert("RGB").save(folder / f"{index}.png")
        x = preprocess(spec_of(original), folder / f"{index}.png")[None]
        rows.append([f"{index}.png", int(outputs(original.graph, "onnxruntime", [x]).argmax()), f"scene {index // 2}"])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "class_index", "group"], *rows])
    assert fitting("--method", "int8", data=folder).code == 0
    receipt = told(tmp_path)
    assert receipt.quality.original == 100.0
    assert receipt.quality.n == 22
    assert receipt.quality.subject == pytest.approx(100 * receipt.quality.agreement)
    assert shoe.read(tmp_path / "x.shoe").labels == ()


def test_a_folder_without_labels(fitting, photographs: Path, tmp_path: Path) -> None:
    """Judged by the probability kept, and gated although the budget does not speak of quality."""
    folder = tmp_path / "data"
    folder.mkdir()
    for index, path in enumerate(sorted(photographs.rglob("*.*"))):
        Image.open(path).save(folder / f"{index}{path.suffix}")
    ran = fitting("--method", "int8", data=folder)
    receipt = told(tmp_path)
    assert receipt.quality.metric == "probability kept"
    assert [(line.limit, line.asked) for line in receipt.budget] == [("quality", -10.0)]
    assert ran.code == {HOLDS: 0, FAILS: 3}[receipt.verdict]
    assert shoe.read(tmp_path / "x.shoe").labels == ()


def test_the_zoo_and_a_npz(fitting, packed: Path, tmp_path: Path) -> None:
    assert fitting("--method", "int8", model="cifar_mobilenet", data=packed, shape=None).code == 0
    receipt, artifact = told(tmp_path), shoe.read(tmp_path / "x.shoe")
    assert receipt.quality is None
    assert "The weights are random: speed is measured, quality is not." in receipt.notes
    assert artifact.labels[0] == "airplane"
    assert artifact.provenance["trained"] is False
    assert artifact.preprocess["mean"] == [125.205, 122.91, 113.985]
    assert len(package.load(tmp_path / "x.shoe")(np.zeros((32, 32, 3), np.uint8))) == 5


@pytest.mark.parametrize("name", ["float", "old"])
def test_an_onnx_file(name: str, fitting, onnx_files, tmp_path: Path) -> None:
    """Of a fixed batch, and of opset 17 with an open one."""
    assert fitting("--method", "int8", model=str(onnx_files[name]), shape=None).code == 0
    artifact = shoe.read(tmp_path / "x.shoe")
    assert len(artifact.provenance["methods"]) == 6
    assert artifact.provenance["original"]["model"] == f"{name}.onnx"
    assert told(tmp_path).quality.n == 22
    assert violations(onnx.load_from_string(artifact.onnx())) == []


def test_a_factory_in_a_package(fitting, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf_of_mine").mkdir()
    (tmp_path / "shelf_of_mine" / "nets.py").write_text(Path(tiny.rpartition(":")[0]).read_text())
    assert fitting("--method", "int8", model="shelf_of_mine.nets:tiny").code == 0
    assert shoe.read(tmp_path / "x.shoe").provenance["original"]["model"] == "shelf_of_mine.nets:tiny"


def test_a_network_that_is_not_square(fitting, photographs: Path, tmp_path: Path) -> None:
    assert fitting("--method", "int8", shape="3x24x40").code == 0
    assert shoe.read(tmp_path / "x.shoe").preprocess["crop"] == [24, 40]
    assert len(package.load(tmp_path / "x.shoe")(photographs / "ant" / "0.png")) == 5


PLANNED = ("--without", "structured", "--without", "magnitude", "--rounds", 0)  # 8 bits and fp32, once


def test_beyond_reach_is_exit_3_with_the_closest_plan(fitting, bench, tmp_path: Path) -> None:
    bench()
    ran = fitting("--budget", "latency<=0.001x", *PLANNED)
    assert (ran.code, ran.err) == (3, "")
    assert "FAILS  x.shoe on onnxruntime" in ran.out
    assert "Not met: latency" in ran.out
    assert "No plan meets the budget" in ran.out
    assert told(tmp_path).verdict == FAILS


@pytest.mark.filterwarnings("default")
def test_a_plan_that_changes_nothing_says_so(fitting, bench, tmp_path: Path) -> None:
    bench()
    ran = fitting("--budget", "latency<=9x", *PLANNED)
    assert ran.code == 0
    assert ran.said == "warning: every layer stays in fp32: the file is the original"
    assert shoe.read(tmp_path / "x.shoe").provenance["methods"] == {}


def test_a_plan_within_a_budget(fitting, bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six layers of 1 ms, which take half of it in 8 bits: four of them do. What is left out is not even built."""
    bench()
    monkeypatch.setattr("shoestring.pipeline.menus.structure.variants", lambda *_: pytest.fail("left out"))
    monkeypatch.setattr("shoestring.pipeline.planned.around", lambda *_: pytest.fail("no round was asked for"))
    ran = fitting("--latency", "0.7x", *PLANNED, "--epochs", 0)
    assert (ran.code, ran.err) == (0, "")
    methods = shoe.read(tmp_path / "x.shoe").provenance["methods"]
    assert list(methods.values()) == ["int8"] * 4
    receipt = told(tmp_path)
    assert receipt.verdict == HOLDS
    assert [step.step for step in receipt.ledger] == ["original, fp32", "8 bits", "bits by layer", "reconstruction"]
    assert "Planned on onnxruntime: int8 in 4, fp32 in 2 of 6 layers." in " ".join(ran.out.split())


def test_rounds_plan_anew_around_what_came_of_a_plan(fitting, bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by default; as many as are asked for while each is better than the one before."""
    from shoestring.pipeline import planned

    bench()
    rounds: list[Any] = []
    monkeypatch.setattr(planned._Search, "around", lambda _, found: rounds.append(found) or found)
    for options, better, expected in (((), True, 1), (("--rounds", 3), True, 3), (("--rounds", 3), False, 1)):
        rounds.clear()
        losses = iter(range(9) if better else range(9, 0, -1))  # the new one's, the one before's, and so on
        monkeypatch.setattr(planned._Search, "loss", lambda *_, losses=losses: next(losses))
        assert fitting("--latency", "0.7x", *PLANNED[:4], *options).code == 0
        assert len(rounds) == expected


def test_a_front(fitting, bench, tmp_path: Path) -> None:
    """Five budgets from the loosest to the tightest, each with its file in one folder, and a page."""
    bench()
    ran = fitting("--budget", "latency=0.55x..0.9x", *PLANNED, "--epochs", 0, "--seconds", 1)
    assert (ran.code, ran.err) == (0, "")
    folder, front = tmp_path / "x.front", json.loads((tmp_path / "x.json").read_text())
    limits = ["0.9x", "0.796x", "0.704x", "0.622x", "0.55x"]
    files = [f"x-latency{limit}.shoe" for limit in limits]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "front.html"])
    assert not (tmp_path / "x.shoe").exists()
    assert {point["file"] for point in front["points"]} == set(files)
    assert {point["verdict"] for point in front["points"]} == {HOLDS}
    quantised = [len(shoe.read(folder / name).provenance["methods"]) for name in files]
    assert quantised == [2, 3, 4, 5, 6]  # by half a millisecond each, to 0.98 of the limit
    page = (folder / "front.html").read_text()
    assert all(name in page for name in files)
    assert ran.out.splitlines()[-1].startswith(f"wrote {folder}: x-latency")


def test_a_front_ends_where_no_plan_meets_the_budget(tiny: str, quick, bench, packed: Path, tmp_path: Path) -> None:
    """From Python: a `FittedFront`; the last point is the closest plan, and the rest is told of."""
    bench()
    done = package.fit(
        tiny,
        data=packed,
        input="3x32x32",
        budget="latency=0.1x..0.6x",
        runtime="onnxruntime",
        calibration=8,
        out=tmp_path / "x.shoe",
        without="structured",
        rounds=0,
    )
    assert [path.name for path in sorted(done.folder.iterdir())] == ["x-latency0.383x.shoe", "x-latency0.6x.shoe"]
    assert [one.proposal.met for one in done.fitted] == [True, False]
    (note,) = done.front.notes
    assert note.startswith("latency<=0.383x cannot be met: on onnxruntime, latency<=")
    assert note.endswith("Not tried: latency<=0.245x, latency<=0.157x, latency<=0.1x.")


def test_pruned_in_one_shot(fitting, tiny: str, photographs: Path, tmp_path: Path) -> None:
    """The receipt says so; from Python it is the same file."""
    ran = fitting("--method", "magnitude:4x1@50%:blocks.1.*=dense", "--epochs", 0)
    assert (ran.code, ran.err) == (0, "")
    artifact = shoe.read(tmp_path / "x.shoe")
    assert artifact.provenance["methods"]["blocks.0.project.0"] == "magnitude:4x1@50%:uniform, int8"
    assert set(artifact.provenance["methods"].values()) == {"magnitude:4x1@50%:uniform, int8", "int8"}
    assert any(note.startswith("Pruned in one shot, without training") for note in told(tmp_path).notes)
    assert "Pruned in one shot" in ran.out
    given = {"input": "3x32x32", "runtime": "onnxruntime", "calibration": 8, "out": tmp_path / "y.shoe"}
    done = package.fit(tiny, data=photographs, method="magnitude:4x1@50%:blocks.1.*=dense", epochs=0, **given)
    assert shoe.read(done.path).members == artifact.members


def test_made_up_for_without_training_or_the_raw_damage(fitting, tmp_path: Path) -> None:
    ran = fitting("--method", "int8:w3")
    assert (ran.code, ran.err) == (0, "")
    ours = told(tmp_path)
    assert sum("Reconstructed without training" in note for note in ours.notes) == 1
    assert "stored at fewer than 8 bits and executed at 8" in " ".join(ran.out.split())
    assert fitting("--method", "int8:w3", "--no-reconstruct").code == 0
    raw = told(tmp_path)
    assert not any("econstruct" in note for note in raw.notes)
    assert any(note.startswith("No training was done") for note in raw.notes)
    assert ours.quality.divergence < raw.quality.divergence


def test_twins_are_the_same_budget(fitting, tmp_path: Path) -> None:
    assert fitting("--latency", "0.9x", "--size", "1MB", "--lose", "100pt", "--method", "int8").code == 0
    budget = shoe.read(tmp_path / "x.shoe").provenance["budget"]
    assert budget == "latency<=0.9x, size<=1MB, quality>=-100pt"


def test_photographs_of_installed_packages(fitting, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    fitting("--demo", "--method", "int8", data=None)
    assert told(tmp_path).quality.n > 100


def test_without_out_the_file_is_named_after_the_model(shoestring, tiny, photographs, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", photographs, "--calibration", 8, "--method", "int8", "--runtime", "onnxruntime")
    ran = shoestring("fit", tiny, "--input", "3x32x32", *options)
    assert ran.out.splitlines()[-1] == "wrote tiny.shoe"
    assert shoe.read("tiny.shoe").receipt is not None


def test_from_python(tiny: str, photographs: Path, tmp_path: Path) -> None:
    """Budgets as text or as an object, paths as text; the same file either way."""
    first, second = (
        package.fit(
            tiny,
            data=str(photographs),
            input="3x32x32",
            budget=budget,
            method=["int8"],
            runtime="onnxruntime",
            calibration=8,
            out=str(tmp_path / f"{index}.shoe"),
        )
        for index, budget in enumerate(("latency<=0.6x", package.Budget.parse("latency<=0.6x")))
    )
    assert first.path == tmp_path / "0.shoe"
    assert shoe.read(first.path).members == shoe.read(second.path).members
    with pytest.raises(BadInput, match="one of the two"):
        package.fit(tiny, input="3x32x32")


BAD: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "no data": ((), {"data": None}, "give --data DIR, or --demo"),
    "two data": (("--demo",), {}, "one of the two"),
    "no such data": ((), {"data": "nowhere"}, "nowhere does not exist"),
    "no images": ((), {"data": "empty"}, "no image in"),
    "too few images": ((), {"data": "few"}, "cannot give 8 and leave any to judge"),
    "one to judge": ((), {"data": "nine"}, "two or more to judge"),
    "other classes": ((), {"data": "two"}, "2 classes do not fit the network's 10 outputs"),
    "broken npz": ((), {"data": "broken.npz"}, "broken.npz"),
    "no shape": ((), {"shape": None}, "add --input CxHxW"),
    "other shape": ((), {"shape": "1x32x32"}, "does not run on 1x32x32"),
    "no model": ((), {"model": "resnet19", "shape": None}, "known are"),
    "no weights": (("--weights", "x.pth"), {}, "x.pth does not exist"),
    "budget": (("--budget", "latency<2ms"), {}, "cannot read 'latency<2ms'"),
    "unit": (("--budget", "latency<=2"), {}, "latency is given in ms"),
    "unknown limit": (("--budget", "beauty<=2"), {}, "unknown limit 'beauty'"),
    "no meter": (("--budget", "energy<=2mJ"), {}, "energy cannot be limited here"),
    "two of a limit": (("--budget", "latency<=2ms", "--latency", "3ms"), {}, "limited twice"),
    "front": (("--budget", "latency=1ms..3ms", "--method", "int8"), {}, "a front is planned"),
    "fronts": (("--budget", "latency=1ms..3ms, size=1MB..2MB"), {}, "has 2 ranges"),
    "front on nothing": (("--budget", "latency=1ms..3ms", "--runtime", "tvm"), {}, "unknown 'tvm'"),
    "front nowhere": (("--budget", "latency=1ms..3ms", "--out", "nowhere/x.shoe"), {}, "there is no folder"),
    "front in a file": (("--budget", "latency=1ms..3ms", "--out", "file.shoe"), {}, "file.front"),
    "without": (("--without", "int4"), {}, "--without: unknown method 'int4'"),
    "without all": (("--latency", "2ms", "--without", "int8"), {}, "int8 is what plans are made of"),
    "rounds": (("--rounds", "-1"), {}, "--rounds"),
    "method": (("--method", "int4"), {}, "unknown method 'int4'"),
    "blocks": (("--method", "magnitude:32x1@50%"), {}, "write blocks.0.project.0=16x1@50%"),
    "methods": (("--method", "int8", "--method", "int8:full"), {}, "cannot be combined; give one of them"),
    "epochs": (("--epochs", "3"), {}, "write --epochs 0"),
    "runtime": (("--runtime", "tvm"), {}, "unknown 'tvm'"),
    "threads": (("--threads", "999"), {}, "999 threads"),
    "device": (("--device", "cuda"), {}, "write cpu"),
    "json": (("--json", "nowhere/x.json"), {}, "there is no folder"),
    "html": (("--html", "nowhere/x.html"), {}, "there is no folder"),
    "out": (("--out", "nowhere/x.shoe"), {}, "there is no folder"),
    "name": (("--out", "x.onnx"), {}, "name it x.shoe"),
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data that does not work, and an older x.shoe."""
    monkeypatch.chdir(tmp_path)
    images = {"few": ["a", "b"], "nine": list("abcdefghi"), "two": ["a/1", "a/2", "b/1", "b/2"] + ["b/3"] * 1}
    for folder, names in images.items():
        for name in names:
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (9, 9, 9)).save(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "x.shoe").write_bytes(b"an older file")
    (tmp_path / "file.front").write_bytes(b"no folder")
    return tmp_path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2_and_nothing_is_written(case: str, fitting, shelf: Path) -> None:
    options, given, reason = BAD[case]
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    ran = fitting(*options, **given)
    assert ran.code == 2, ran.err
    assert reason in ran.said
    assert ran.said.startswith("shoestring: ")
    assert ran.out == ""
    after = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file() and "cache" not in path.parts}
    assert after == before


@pytest.mark.filterwarnings("default")
def test_a_broken_picture_is_left_out_with_a_warning(fitting, photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for path in sorted(photographs.rglob("*.*")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    (folder / "ant" / "0.png").write_bytes(b"no picture")
    ran = fitting("--method", "int8", data=folder)
    assert ran.code == 0
    assert ran.said.startswith("warning: data: left out 1 of 30 images that cannot be read")
    assert told(tmp_path).quality.n == 21
