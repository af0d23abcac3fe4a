"""`shoestring receipt` on every kind of file, with the claims that hold and those that do not."""

import json
import os
from pathlib import Path

import pytest

import shoestring as package
from shoestring.core.receipt import FAILS, HOLDS, Receipt
from shoestring.deploy import shoe

pytestmark = pytest.mark.usefixtures("quick")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def told(path: Path) -> Receipt:
    return Receipt.from_json(json.loads(path.read_text()))


def test_a_shoe_alone(shoestring, fitted, tmp_path: Path) -> None:
    """Judged on the budget it was fitted to; without data there is no quality."""
    ran = shoestring("receipt", fitted.path, "--runtime", "onnxruntime", "--json", tmp_path / "x.json")
    assert (ran.code, ran.err) == (0, "")
    receipt = told(tmp_path / "x.json")
    assert (receipt.verdict, receipt.quality) == (HOLDS, None)
    assert [(line.limit, line.met) for line in receipt.budget] == [("latency", True), ("size", True)]
    assert receipt.subject.size_bytes == fitted.receipt.subject.size_bytes
    assert {item.name for item in receipt.baselines} >= {"fp32", "int8"}
    assert "HOLDS  tiny.shoe on onnxruntime" in ran.out
    assert "random weights" in ran.out


def test_with_original_and_data_it_judges_what_the_fit_judged(
    shoestring, fitted, tiny: str, photographs: Path, tmp_path: Path
) -> None:
    """The file knows how many inputs calibrated and which seed drew them: those do not judge."""
    options = ("--original", tiny, "--input", "3x32x32", "--data", photographs, "--json", tmp_path / "x.json")
    assert shoestring("receipt", fitted.path, *options, "--budget", "quality>=-100pt").code == 0
    receipt = told(tmp_path / "x.json")
    assert receipt.quality == fitted.receipt.quality
    assert receipt.subject.runtime == fitted.receipt.subject.runtime
    shoestring("receipt", fitted.path, *options, "--calibration", 20, "--seed", 1)
    assert told(tmp_path / "x.json").quality.n == 10


@pytest.mark.parametrize("name", ["float", "old", "qdq"])
def test_plain_onnx(name: str, shoestring, onnx_files, tmp_path: Path) -> None:
    ran = shoestring("receipt", onnx_files[name], "--json", tmp_path / "x.json", "--html", tmp_path / "x.html")
    assert (ran.code, ran.err) == (0, "")
    receipt = told(tmp_path / "x.json")
    assert receipt.subject.file == f"{name}.onnx"
    assert receipt.budget == ()
    assert {item.against for item in receipt.speedup} >= {"fp32", "int8"}
    assert f"{name}.onnx" in (tmp_path / "x.html").read_text()


def test_against_another_file(shoestring, fitted, onnx_files, timed, tmp_path: Path) -> None:
    timed({"subject": 2.0, "qdq.onnx@onnxruntime": 5.0, "qdq.onnx@openvino": 9.0})
    options = ("--against", onnx_files["qdq"], "--against", onnx_files["float"], "--json", tmp_path / "x.json")
    assert shoestring("receipt", fitted.path, *options).code == 0
    ratios = {item.against: item.ratio for item in told(tmp_path / "x.json").speedup}
    assert ratios["qdq.onnx"] == pytest.approx(2.5, rel=2e-3)
    assert ratios["float.onnx"] == pytest.approx(1.5, rel=2e-3)


@pytest.mark.parametrize(
    ("budget", "code"),
    [("latency<=0.6x", 0), ("latency<=0.4x", 3), ("latency<=0.6x, size<=1kB", 3), ("latency<=3ms", 0)],
)
def test_a_claim_that_does_not_hold_is_exit_3(budget: str, code: int, shoestring, fitted, tmp_path: Path) -> None:
    ran = shoestring("receipt", fitted.path, "--budget", budget, "--json", tmp_path / "x.json")
    assert (ran.code, ran.err) == (code, "")
    assert told(tmp_path / "x.json").verdict == (HOLDS if code == 0 else FAILS)


def test_batches(shoestring, fitted, tmp_path: Path) -> None:
    ran = shoestring("receipt", fitted.path, "--batch", 2, "--json", tmp_path / "x.json")
    assert (ran.code, told(tmp_path / "x.json").device["batch"]) == (0, 2)


@pytest.mark.skipif(CORES < 2, reason="one core")
def test_threads(shoestring, fitted, tmp_path: Path) -> None:
    ran = shoestring("receipt", fitted.path, "--threads", 2, "--json", tmp_path / "x.json")
    assert (ran.code, told(tmp_path / "x.json").device["clock"]) == (0, "wall time")


def test_several_files(shoestring, fitted, onnx_files, tmp_path: Path) -> None:
    """A list in the JSON, a page each, and the code of the worst."""
    options = ("--json", tmp_path / "x.json", "--html", tmp_path / "x.html", "--budget", "size<=14kB")
    # What was measured of a .shoe does not count, so that fit and receipt judge the same number.
    sizes = {fitted.path: fitted.receipt.subject.size_bytes, onnx_files["float"]: onnx_files["float"].stat().st_size}
    ran = shoestring("receipt", *sizes, *options)
    receipts = [Receipt.from_json(item) for item in json.loads((tmp_path / "x.json").read_text())]
    assert [item.subject.file for item in receipts] == ["tiny.shoe", "float.onnx"]
    assert [item.subject.size_bytes for item in receipts] == list(sizes.values())
    verdicts = [HOLDS if size <= 14_000 else FAILS for size in sizes.values()]
    assert [item.verdict for item in receipts] == verdicts
    assert ran.code == (3 if FAILS in verdicts else 0)
    assert {path.name for path in tmp_path.glob("*.html")} == {"x-tiny.html", "x-float.html"}


def test_a_file_that_was_left_in_fp32(shoestring, tiny: str, photographs: Path, tmp_path: Path) -> None:
    """A plan may leave every layer as it is: its receipt still splits to the ratio."""
    with pytest.warns(package.NoEffectWarning):
        options = {"data": photographs, "input": "3x32x32", "runtime": "onnxruntime", "calibration": 8}
        package.fit(tiny, budget="latency<=9x", out=tmp_path / "x.shoe", **options)
    receipt = package.receipt(tmp_path / "x.shoe", runtime="onnxruntime")
    (over_fp32,) = (item for item in receipt.speedup if item.against == "fp32")
    assert over_fp32.split["precision"] == pytest.approx(1.0)


def test_from_python(fitted) -> None:
    receipt = package.receipt(str(fitted.path), budget=package.Budget.parse("latency<=0.6x"), runtime="onnxruntime")
    assert isinstance(receipt, package.Receipt)
    assert receipt.verdict == HOLDS
    assert package.receipt(fitted.path, budget="latency<=0.1x").verdict == FAILS


BAD = {
    "data alone": (("--data", "."), "add --original MODEL"),
    "input alone": (("--input", "3x32x32"), "they belong to --original MODEL"),
    "front": (("--budget", "latency=1ms..2ms"), "asks for a front"),
    "budget": (("--budget", "fast"), "cannot read 'fast'"),
    "runtime": (("--runtime", "tvm"), "unknown 'tvm'"),
    "threads": (("--threads", "999"), "999 threads"),
    "against nothing": (("--against", "nowhere.shoe"), "nowhere.shoe: cannot be read"),
    "against text": (("--against", "text.txt"), "is neither a .shoe nor an .onnx file"),
    "original": (("--original", "resnet19"), "known are"),
    "other original": (("--original", "TINY", "--input", "3x16x16"), "takes inputs (1, 3, 16, 16)"),
    "json": (("--json", "nowhere/x.json"), "there is no folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(case: str, shoestring, fitted, tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, reason = BAD[case]
    ran = shoestring("receipt", fitted.path, *(tiny if option == "TINY" else option for option in options))
    assert ran.code == 2, ran.err
    assert reason in ran.said
    assert ran.out == ""
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_files_that_are_none(shoestring, tmp_path: Path, fitted) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "cut.shoe").write_bytes(fitted.path.read_bytes()[:-1])
    for path in (tmp_path / "nowhere.shoe", tmp_path / "text.onnx", tmp_path / "cut.shoe", tmp_path):
        ran = shoestring("receipt", path)
        assert ran.code == 2
        assert str(path) in ran.said


def test_a_budget_that_the_file_cannot_claim(shoestring, fitted, tmp_path: Path) -> None:
    """A stranger's file may say anything of itself."""
    read = shoe.read(fitted.path)
    provenance = {**read.provenance, "budget": "latency<=-1ms\x07"[:-1]}
    shoe.write(tmp_path / "x.shoe", shoe.Contents(read.preprocess, read.labels, read.points, read.members, provenance))
    ran = shoestring("receipt", tmp_path / "x.shoe")
    assert ran.code == 2
    assert "latency must be above zero" in ran.said
