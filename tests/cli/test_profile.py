"""`shoestring profile` on every kind of file."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import shoestring as package
from shoestring.core.profile import BOUNDS, Profile, Roof
from shoestring.deploy import runtimes

pytestmark = pytest.mark.usefixtures("quick_roof")
STOCK = ("--runtime", "onnxruntime")


@pytest.fixture
def quick_roof(timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes 2 ms, and what the machine can do is known."""
    timed({"run": 2.0})
    monkeypatch.setattr("shoestring.pipeline.profile.roof", lambda *_: Roof(80.0, 12.0, "by hand"))


@pytest.mark.parametrize("name", ["float", "old", "qdq", "qoperator"])
def test_plain_onnx(name: str, shoestring, onnx_files: Mapping[str, Path], tmp_path: Path) -> None:
    places = ("--json", tmp_path / "x.json", "--html", tmp_path / "x.html")
    told = shoestring("profile", onnx_files[name], *STOCK, *places)
    assert (told.code, told.err) == (0, "")
    data = json.loads((tmp_path / "x.json").read_text())
    assert (data["file"], data["device"]["runtime"], data["roof"]["gmacs"]) == (f"{name}.onnx", "onnxruntime", 80.0)
    assert data["ms"] == pytest.approx(2.0, rel=1e-2)
    assert {row["bound"] for row in data["operators"]} <= set(BOUNDS)
    assert sum(row["share"] for row in data["operators"]) == pytest.approx(1.0)
    assert told.out.splitlines()[1] == f"{name}.onnx on onnxruntime"
    assert data["operators"][0]["label"] in told.out
    assert (tmp_path / "x.html").read_text().lower().startswith("<!doctype html>")


def test_a_shoe_on_any_runtime(shoestring, fitted, tmp_path: Path) -> None:
    """Without --runtime on the engine where it is here, else on what the file was measured on."""
    assert shoestring("profile", fitted.path, "--json", tmp_path / "x.json").code == 0
    chosen = json.loads((tmp_path / "x.json").read_text())["device"]["runtime"]
    assert chosen == ("engine" if "engine" in runtimes.installed() else fitted.receipt.subject.runtime)
    for runtime in runtimes.installed():
        options = ("--runtime", runtime, "--batch", 2, "--json", tmp_path / "x.json")
        assert shoestring("profile", fitted.path, *options).code == 0
        data = json.loads((tmp_path / "x.json").read_text())
        assert (data["device"]["runtime"], data["device"]["batch"]) == (runtime, 2)
        macs = {row["node"]: row["dense"] for row in data["operators"]}
        assert macs["stem.0"] == 2 * 16 * 16 * 16 * 27


def test_what_the_engine_cannot_run_is_profiled_elsewhere(onnx_files: Mapping[str, Path]) -> None:
    assert package.profile(onnx_files["float"]).device["runtime"] == "onnxruntime"


def test_from_python(fitted) -> None:
    told = package.profile(str(fitted.path), runtime="onnxruntime")
    assert isinstance(told, Profile)
    assert (told.file, told.device["threads"]) == ("tiny.shoe", 1)


BAD = {
    "runtime": (("--runtime", "tvm"), "unknown 'tvm'"),
    "threads": (("--threads", "999"), "999 threads"),
    "json": (("--json", "nowhere/x.json"), "there is no folder"),
    "html": (("--html", "nowhere/x.html"), "there is no folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(case: str, shoestring, onnx_files, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, reason = BAD[case]
    ran = shoestring("profile", onnx_files["float"], *options)
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.said


def test_files_that_are_none(shoestring, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "text.txt").write_text("no graph")
    for path in (tmp_path / "nowhere.shoe", tmp_path / "text.onnx", tmp_path / "text.txt", tmp_path):
        ran = shoestring("profile", path)
        assert ran.code == 2
        assert str(path) in ran.said
